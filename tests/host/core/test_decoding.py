"""Core's VAE decodes our latents, from the same weights under the original names."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI


@pytest.mark.parametrize("num_frames", [1, 17])
def test_core_decodes_our_latents_to_the_same_images(
    core: HeadlessComfyUI, core_client: ComfyClient, num_frames: int
) -> None:
    def node(kind: str, **inputs: object) -> dict[str, object]:
        return {"class_type": kind, "inputs": inputs}

    text = node("WanDuetEncodePrompt", model=["model", 0], prompt="a red ball", negative_prompt="")
    sampler = node(
        "WanDuetTwoStageSampler",
        model=["model", 0],
        positive=["text", 0],
        negative=["text", 1],
        latent=["latent", 0],
        seed=1,
        steps=4,
        guidance_scale=1.0,
        guidance_scale_2=1.0,
        shift=5.0,
        solver="unipc",
        boundary=-1.0,
        strength=1.0,
    )
    latent = node("WanDuetEmptyLatent", model=["model", 0], width=112, height=64, num_frames=num_frames)
    graph = {
        "model": node("WanDuetLoadModel", model="toy", precision="fp32"),
        "text": text,
        "latent": latent,
        "sample": sampler,
        "ours": node("WanDuetDecode", model=["model", 0], latent=["sample", 0]),
        "vae": node("VAELoader", vae_name="toy.safetensors"),
        "core": node("VAEDecode", vae=["vae", 0], samples=["sample", 0]),
        "save ours": node("ProbeSave", value=["ours", 0], name="ours.safetensors"),
        "save core": node("ProbeSave", value=["core", 0], name="core.safetensors"),
    }
    core_client.run(graph)
    ours, native = (load_file(core.output / f"{name}.safetensors")["value"] for name in ("ours", "core"))
    assert ours.shape == native.shape == (num_frames, 64, 112, 3)
    assert ours.std() > 0.02  # something is drawn
    assert torch.allclose(ours, native.float(), atol=1e-3)
