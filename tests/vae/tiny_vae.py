"""Random VAEs of both real layouts, small enough for a test."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan

LAYOUTS: dict[str, dict[str, Any]] = {
    "2.1": {"base_dim": 8, "z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
    "2.2": {
        "base_dim": 8,
        "decoder_base_dim": 12,
        "z_dim": 6,
        "latents_mean": [0.0] * 6,
        "latents_std": [1.0] * 6,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    },
}


def make_vae(layout: str = "2.1", dtype: torch.dtype = torch.float32) -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(num_res_blocks=1, **LAYOUTS[layout]).eval().to(dtype)
