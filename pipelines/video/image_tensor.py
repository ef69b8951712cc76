"""Resizes image tensors without stretching them, and lays transparent ones over a background."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..device.late_torch import F
from .frame_pixels import WHITE

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["fit", "flattened", "with_alpha"]


def fit(frames: Tensor, width: int, height: int) -> Tensor:
    """Resize (T, H, W, 3) in [0, 1] to cover (T, height, width, 3), and crop in the centre.

    Bicubic with antialiasing. Frames of that size are returned unchanged.
    """
    old_height, old_width = frames.shape[1:3]
    if (old_width, old_height) == (width, height):
        return frames
    scale = max(width / old_width, height / old_height)
    covering = [
        max(side, math.ceil(old * scale - 1e-6)) for side, old in ((height, old_height), (width, old_width))
    ]
    resized = F.interpolate(
        frames.movedim(-1, 1).float(), size=covering, mode="bicubic", antialias=True, align_corners=False
    )
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    cropped = resized[:, :, top : top + height, left : left + width]
    return cropped.clamp(0, 1).movedim(1, -1).contiguous()


def flattened(pixels: Tensor, background: tuple[int, int, int] = WHITE) -> Tensor:
    """Convert (..., H, W, 3 or 4) in [0, 1] to (..., H, W, 3), with `background`, RGB from 0 to 255, behind
    transparency.
    """
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + (1 - alpha) * (pixels.new_tensor(background) / 255)


def with_alpha(pixels: Tensor) -> Tensor:
    """Convert (..., H, W, 3 or 4) in [0, 1] to (..., H, W, 4). Pixels without alpha are opaque."""
    return pixels if pixels.shape[-1] == 4 else F.pad(pixels, (0, 1), value=1.0)
