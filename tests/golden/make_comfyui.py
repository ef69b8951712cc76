"""Makes comfyui.safetensors: ComfyUI's native two-stage sampling on the tiny model.

    cd COMFYUI && COMFYUI_PYTHON /path/of/wan_duet/tests/golden/make_comfyui.py [-o OUT]

Made with ComfyUI 0.25.0 and torch 2.11.0, on a CPU in float32: two MODELs with ModelSamplingSD3's shift,
sampled one after the other as KSamplerAdvanced does it (euler, `simple` sigmas, leftover noise handed on).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [os.getcwd(), str(HERE)]

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True

import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
from comfy_extras.nodes_model_advanced import ModelSamplingSD3  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-o", "--output", type=Path, default=HERE / "comfyui.safetensors")
    output = parser.parse_args().output

    def model(name: str) -> object:
        loaded = comfy.sd.load_diffusion_model_state_dict(
            tiny.expert_weights(tiny.SEEDS[name]), model_options={"dtype": torch.float32}
        )
        return ModelSamplingSD3().patch(loaded, tiny.SHIFT)[0]

    def conditioning(name: str) -> list[list[object]]:
        return [[torch.nn.functional.pad(tiny.text(name), (0, 0, 0, 512 - tiny.text(name).shape[1])), {}]]

    models = {name: model(name) for name in ("high", "low")}
    sampling = models["high"].get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", tiny.STEPS)
    switch = int((sigmas >= tiny.BOUNDARY).sum())

    def sample(name: str, noise: Tensor, latents: Tensor, start: int, end: int) -> Tensor:
        return comfy.sample.sample(
            models[name], noise, tiny.STEPS, tiny.GUIDANCE[name], "euler", "simple",
            conditioning("positive"), conditioning("negative"), latents,
            disable_noise=not bool(noise.any()), start_step=start, last_step=end,
            force_full_denoise=end >= tiny.STEPS, disable_pbar=True, seed=tiny.SEEDS["noise"],
        )  # fmt: skip

    noise = comfy.sample.prepare_noise(torch.zeros(tiny.LATENT_SHAPE), tiny.SEEDS["noise"])
    after_high = sample("high", noise, torch.zeros(tiny.LATENT_SHAPE), 0, switch)
    final = sample("low", torch.zeros_like(noise), after_high, switch, tiny.STEPS)
    tensors = {"sigmas": sigmas, "after_high": after_high, "two_stage": final}
    save_file(
        {name: tensor.float().contiguous() for name, tensor in tensors.items()},
        output,
        metadata={
            "made_by": "tests/golden/make_comfyui.py",
            "source": "ComfyUI 0.25.0",
            "switch": str(switch),
        },
    )


if __name__ == "__main__":
    main()
