"""Converts between the floats of a decoder and frames, which are uint8 RGB arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..device.late_torch import torch
from ..errors import MediaError
from .frame_pixels import WHITE, Background
from .frame_stream import Frame, FrameStream, close
from .image_tensor import flattened, with_alpha

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "image_frames",
    "to_image",
    "to_tensor",
    "to_uint8",
    "video_frames",
]


def to_uint8(frame: Tensor, *, low: float = -1.0) -> Frame:
    """Convert (3 or 4, H, W) float in [low, 1] to (H, W, 3 or 4) uint8, rounded to the nearest level.

    Clips values outside the range. Converts on the device of the tensor, so that only bytes are copied to the
    CPU.

    Raises MediaError for NaN or Inf, which would turn into black or grey.
    """
    _require_finite(frame)
    levels = (frame.float() - low) * (255.0 / (1.0 - low))
    pixels = levels.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    return np.asarray(pixels.cpu().numpy(), dtype=np.uint8)


def to_image(frame: Tensor) -> Tensor:
    """Convert (3, H, W) in [-1, 1] to (H, W, 3) float32 in [0, 1] on the CPU, as in a ComfyUI IMAGE.

    Raises MediaError for NaN or Inf.
    """
    _require_finite(frame)
    return (frame.float().permute(1, 2, 0) * 0.5 + 0.5).clamp_(0, 1).cpu()


def to_tensor(frame: Frame, device: str | torch.device) -> Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1] on `device`. Copies bytes to the device."""
    pixels = torch.from_numpy(np.array(frame))  # a copy: torch warns about read-only arrays
    return pixels.to(device).permute(2, 0, 1)[None].float() / 255


def video_frames(decoded: Iterator[Tensor]) -> FrameStream:
    """Convert decoded frames, (3, H, W) in [-1, 1] each, to a frame stream."""
    try:
        for frame in decoded:
            yield to_uint8(frame)
    finally:
        close(decoded)


def image_frames(images: Iterable[Tensor], background: Background = WHITE) -> FrameStream:
    """Convert a ComfyUI IMAGE, (N, H, W, 3 or 4) in [0, 1], to a frame stream.

    background: RGB, 0 to 255, behind alpha. None keeps it: all frames are (H, W, 4).
    """
    for image in images:
        pixels = with_alpha(image) if background is None else flattened(image, background)
        yield to_uint8(pixels.permute(2, 0, 1), low=0.0)


def _require_finite(frame: Tensor) -> None:
    if not bool(torch.isfinite(frame).all()):
        raise MediaError(
            "a decoded frame contains NaN or Inf; decode with the VAE in float32, or use another seed"
        )
