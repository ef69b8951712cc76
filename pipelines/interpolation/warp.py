"""Warps an image by a flow field."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Smoothing", "sample_at", "sampling_grid", "warp"]

Smoothing: TypeAlias = Literal["bilinear", "bicubic"]


def warp(image: Tensor, flow: Tensor, mode: Smoothing = "bilinear") -> Tensor:
    """image(x + flow(x)): (N, C, H, W) and (N, 2, H, W) in pixels right, down -> (N, C, H, W), float32.

    Beyond the border the border goes on.
    """
    return sample_at(image, sampling_grid(flow), mode)


def sampling_grid(flow: Tensor) -> Tensor:
    """x + flow(x) as (N, H, W, 2): right, down, from -1 to 1 between the middles of the outermost pixels.

    float32 whatever the flow is: half precision would miss by up to a pixel at 1280 wide.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0].float()
    y = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    return torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)


def sample_at(image: Tensor, grid: Tensor, mode: Smoothing) -> Tensor:
    """Sample the image at `grid`, in float32."""
    return functional.grid_sample(image.float(), grid, mode=mode, padding_mode="border", align_corners=True)
