"""A picture seen through a field of motion."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["warp"]


def warp(picture: Tensor, flow: Tensor, mode: Literal["bilinear", "bicubic"] = "bilinear") -> Tensor:
    """picture(x + flow(x)): (N, C, H, W) and (N, 2, H, W) in pixels right, down -> (N, C, H, W), float32.

    Beyond the border the border goes on. The grid is float32 whatever the picture is: half precision would
    miss by up to a pixel at 1280 wide.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0].float()
    y = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1].float()
    grid = torch.stack((x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1), -1)
    return functional.grid_sample(picture.float(), grid, mode=mode, padding_mode="border", align_corners=True)
