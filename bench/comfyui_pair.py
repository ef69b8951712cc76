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
from pathlib import Path

sys.path[:0] = [os.getcwd(), str(Path(__file__).parent)]

import comfy.cli_args

comfy.cli_args.args.cpu = True

import comfy.sample
import comfy.sd
import small_model
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from protocol import ratio_of
from safetensors.torch import load_file
from torch import Tensor

from wan_duet.pipelines.memory import DeviceMemory
from wan_duet.pipelines.models.vae import normalise
from wan_duet.pipelines.models.wan_model import WanModel, load_model
from wan_duet.pipelines.plan.sigmas import from_sigmas
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.stages import sample
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
GUIDANCE = {"high": 3.5, "low": 4.0}


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
            shifted[name], drawn, small_model.STEPS, GUIDANCE[name], "euler", "simple",
            positive, negative, latents, disable_noise=not bool(drawn.any()), start_step=start, last_step=end,
            force_full_denoise=end >= small_model.STEPS, disable_pbar=True, seed=0,
        )  # fmt: skip

    def theirs() -> Tensor:
        empty = torch.zeros_like(noise)
        return stage("low", empty, stage("high", noise, empty, 0, switch), switch, small_model.STEPS)

    plan = Schedule.of_grid(from_sigmas(sigmas.tolist()), small_model.BOUNDARY)

    def mine() -> Tensor:
        empty = torch.zeros_like(noise)
        return sample(ours, plan, "euler", empty, noise, prompts, GUIDANCE, DeviceMemory("cpu"), Silent())

    apart = relative_l2(normalise(mine(), ours.vae), normalise(theirs().float(), ours.vae))
    ratio = ratio_of(mine, theirs, options.pairs)
    one = one_forward(ours, models["high"], noise, prompts.positive.text)
    print(json.dumps({"ratio": [ratio.median, ratio.low, ratio.high], "latents": apart, "forward": one}))


def load_ours(folder: Path) -> WanModel:
    from dataclasses import replace
    from types import MappingProxyType

    experts = {name: read_component(folder / name) for name in ("high", "low")}
    return replace(load_model("toy"), name=str(folder), experts=MappingProxyType(experts))


def one_forward(ours: WanModel, theirs: object, latents: Tensor, text: Tensor) -> float:
    """Relative distance of one forward of the high expert."""
    from diffusers import WanTransformer3DModel

    from wan_duet.pipelines.kernels.choices import FloatChoices
    from wan_duet.pipelines.models.network import use_own_forward

    network = WanTransformer3DModel.from_pretrained(Path(ours.name) / "high")
    use_own_forward(network, FloatChoices())
    made = network(latents, torch.tensor([700.0]), text, return_dict=False)[0]
    diffusion = theirs.model.diffusion_model  # type: ignore[attr-defined]
    return relative_l2(made, diffusion(latents, torch.tensor([700.0]), context=text))


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


if __name__ == "__main__":
    main()
