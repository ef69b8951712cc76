"""Whether what is foretold of the VAE covers what is counted, on the real networks.

Counted on meta tensors: every storage that a stream makes, from where it is made to where it dies. What is
counted grows with the number of pixels alone, so a small picture tells about a large one.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from diffusers import AutoencoderKLWan
from traffic import Traffic

from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.vae.encode import stream_encode
from wan_duet.pipelines.vae.forward import replace_vae_forward
from wan_duet.pipelines.vae.tile_size import vae_bytes

OLD: dict[str, Any] = {}
NEW: dict[str, Any] = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
    "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip
WIDTH, HEIGHT, CHUNKS = 128, 96, 4


def peak(config: dict[str, Any], way: str, dtype: torch.dtype) -> int:
    with torch.device("meta"):
        vae = AutoencoderKLWan(**config).eval().to(dtype)
        stride = vae.config.scale_factor_spatial
        latents = torch.empty(1, vae.config.z_dim, CHUNKS, HEIGHT // stride, WIDTH // stride, dtype=dtype)
        frames = [torch.empty(3, HEIGHT, WIDTH, dtype=dtype) for _ in range(4 * CHUNKS - 3)]
    replace_vae_forward(vae)
    stream = stream_decode(vae, latents) if way == "decode" else stream_encode(vae, iter(frames))
    with torch.inference_mode(), Traffic() as live:
        for _ in stream:
            pass
    return live.peak


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("config", [OLD, NEW], ids=["2.1", "2.2"])
def test_a_stream_takes_what_is_foretold(
    config: dict[str, Any], way: Literal["decode", "encode"], dtype: torch.dtype
) -> None:
    """With something to spare for what a convolution library takes. The numbers are those of the stock
    forward, which takes half as much again for decoding with VAE 2.2.
    """
    counted = peak(config, way, dtype)
    foretold = vae_bytes(config, way, WIDTH, HEIGHT, dtype.itemsize)
    assert 1.1 * counted <= foretold <= 1.8 * counted
