"""ComfyUI's native two-stage sampling beside ours, on equal weights in one process. Prints JSON.

    cd COMFYUI && COMFYUI_PYTHON /path/of/wan_duet/bench/comfyui_pair.py FOLDER [--pairs N]

FOLDER holds the experts that `small_model.make` wrote. The wan_duet package must be importable there;
`suite.py` sees to both.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

sys.path[:0] = [str(Path(__file__).parent), os.getcwd()]

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.sample
import comfy.sd
import small_model
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from pairs import ratio_of
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan.sigmas import from_sigmas
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.vae.latent_space import normalise
from wan_duet.pipelines.weights.folder import read_component

NAMES = [
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".o."),
    ("ffn.net.0.proj.", "ffn.0."),
    ("ffn.net.2.", "ffn.2."),
    (".norm2.", ".norm3."),
    ("condition_embedder.text_embedder.linear_1.", "text_embedding.0."),
    ("condition_embedder.text_embedder.linear_2.", "text_embedding.2."),
    ("condition_embedder.time_embedder.linear_1.", "time_embedding.0."),
    ("condition_embedder.time_embedder.linear_2.", "time_embedding.2."),
    ("condition_embedder.time_proj.", "time_projection.1."),
    ("proj_out.", "head.head."),
]


def in_wans_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in state.items():
        if key == "scale_shift_table":
            key = "head.modulation"
        for ours, theirs in NAMES:
            key = key.replace(ours, theirs)
        renamed[key.replace("scale_shift_table", "modulation")] = tensor
    return renamed


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ours = load_ours(options.folder)
    models = {
        name: comfy.sd.load_diffusion_model_state_dict(
            in_wans_names(load_file(options.folder / name / "diffusion_pytorch_model.safetensors")),
            model_options={"dtype": torch.float32},
        )
        for name in ("high", "low")
    }
    shifted = {name: ModelSamplingSD3().patch(model, small_model.SHIFT)[0] for name, model in models.items()}
    noise, prompts = small_model.inputs()
    sampling = shifted["high"].get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", small_model.STEPS)
    switch = int((sigmas >= small_model.BOUNDARY).sum())
    positive, negative = ([[text.text, {}]] for text in (prompts.positive, prompts.negative) if text)

    def stage(name: str, drawn: Tensor, latents: Tensor, start: int, end: int) -> Tensor:
        return comfy.sample.sample(
            shifted[name], drawn, small_model.STEPS, small_model.GUIDANCE[name], "euler", "simple",
            positive, negative, latents, disable_noise=not bool(drawn.any()), start_step=start, last_step=end,
            force_full_denoise=end >= small_model.STEPS, disable_pbar=True, seed=0,
        )  # fmt: skip

    def theirs() -> Tensor:
        empty = torch.zeros_like(noise)
        return stage("low", empty, stage("high", noise, empty, 0, switch), switch, small_model.STEPS)

    plan = Schedule.of_grid(from_sigmas(sigmas.tolist()), small_model.BOUNDARY)

    experts = small_model.Loaded(ours)

    def mine() -> Tensor:
        return small_model.sampled(experts, plan, "euler")

    apart = relative_l2(mine(), normalise(theirs().float(), ours.vae))
    ratio = ratio_of(mine, theirs, options.pairs)
    one = one_forward(ours, models["high"], noise, prompts.positive.text)
    print(json.dumps({"ratio": [ratio.median, ratio.low, ratio.high], "latents": apart, "forward": one}))


def load_ours(folder: Path) -> WanModel:
    experts = {name: read_component(folder / name) for name in ("high", "low")}
    return replace(load_model("toy"), name=str(folder), experts=MappingProxyType(experts))


def one_forward(ours: WanModel, theirs: object, latents: Tensor, text: Tensor) -> float:
    """Relative distance of one forward of the high expert."""
    network = small_model.load(ours, "high")
    made = network(latents, torch.tensor([700.0]), text, return_dict=False)[0]
    diffusion = theirs.model.diffusion_model  # type: ignore[attr-defined]
    return relative_l2(made, diffusion(latents, torch.tensor([700.0]), context=text))


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


if __name__ == "__main__":
    main()
