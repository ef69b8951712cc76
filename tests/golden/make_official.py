"""Makes official.safetensors: the numbers of the official Wan 2.2 code on the tiny model.

    python tests/golden/make_official.py --wan22 PATH_OF_A_CHECKOUT

Made with https://github.com/Wan-Video/Wan2.2 at commit 42bf4cf (2026-03-17), torch 2.13.0, on a CPU in
float32. The official attention needs a GPU kernel; it is replaced by torch's scaled_dot_product_attention,
the same mathematics.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import types
from pathlib import Path

import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor


def load(checkout: Path, module: str) -> types.ModuleType:
    """One module of the official package, without running the package's own imports (they need CUDA)."""
    for package in ("wan", "wan.modules", "wan.utils"):
        sys.modules.setdefault(package, types.ModuleType(package)).__path__ = [
            str(checkout / package.replace(".", "/"))
        ]  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location(module, checkout / f"{module.replace('.', '/')}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def attention(q: Tensor, k: Tensor, v: Tensor, **_: object) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def trajectory(
    solver: str, steps: int, shift: float, unipc: types.ModuleType, dpmpp: types.ModuleType
) -> Tensor:
    """The official solver alone, along a velocity field that needs no network."""
    if solver == "unipc":
        scheduler = unipc.FlowUniPCMultistepScheduler(
            num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
        )
        scheduler.set_timesteps(steps, device="cpu", shift=shift)
    else:
        scheduler = dpmpp.FlowDPMSolverMultistepScheduler(
            num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
        )
        scheduler.set_timesteps(sigmas=dpmpp.get_sampling_sigmas(steps, shift), device="cpu")
    latents = tiny.noise()[:, :2, :1, :4, :4]
    for t in scheduler.timesteps:
        latents = scheduler.step(tiny.velocity(latents, float(t)), t, latents, return_dict=False)[0]
    return latents


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wan22", type=Path, required=True)
    checkout = parser.parse_args().wan22

    model_module = load(checkout, "wan.modules.model")
    model_module.flash_attention = attention
    unipc = load(checkout, "wan.utils.fm_solvers_unipc")
    dpmpp = load(checkout, "wan.utils.fm_solvers")

    def expert(name: str) -> torch.nn.Module:
        model = model_module.WanModel(
            dim=tiny.DIM, ffn_dim=tiny.FFN, freq_dim=tiny.FREQ_DIM, text_dim=tiny.TEXT_DIM,
            num_heads=tiny.HEADS, num_layers=tiny.LAYERS,
        )  # fmt: skip
        model.load_state_dict(tiny.expert_weights(tiny.SEEDS[name]))
        return model.eval()

    experts = {name: expert(name) for name in ("high", "low")}
    texts = {name: [tiny.text(name)[0]] for name in ("positive", "negative")}
    tokens = tiny.LATENT_SHAPE[2] * tiny.LATENT_SHAPE[3] * tiny.LATENT_SHAPE[4] // 4

    def forward(name: str, latents: Tensor, t: Tensor, prompt: str) -> Tensor:
        return experts[name]([latents[0]], t=t.reshape(1), context=texts[prompt], seq_len=tokens)[0][None]

    scheduler = unipc.FlowUniPCMultistepScheduler(
        num_train_timesteps=1000, shift=1, use_dynamic_shifting=False
    )
    scheduler.set_timesteps(tiny.STEPS, device="cpu", shift=tiny.SHIFT)
    latents = tiny.noise()
    one_forward = forward("high", latents, scheduler.timesteps[1], "positive")
    for t in scheduler.timesteps:
        name = "high" if t.item() >= tiny.BOUNDARY * 1000 else "low"
        positive, negative = forward(name, latents, t, "positive"), forward(name, latents, t, "negative")
        velocity = negative + tiny.GUIDANCE[name] * (positive - negative)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
    trajectories = {
        tiny.trajectory_name(solver, steps, shift): trajectory(solver, steps, shift, unipc, dpmpp)
        for solver, steps, shift in tiny.TRAJECTORIES
    }
    save_file(
        trajectories
        | {
            "forward": one_forward,
            "two_stage": latents,
            "sigmas": scheduler.sigmas,
            "timesteps": scheduler.timesteps,
        },
        Path(__file__).with_name("official.safetensors"),
        metadata={"made_by": "tests/golden/make_official.py", "source": "Wan-Video/Wan2.2 42bf4cf"},
    )


if __name__ == "__main__":
    main()
