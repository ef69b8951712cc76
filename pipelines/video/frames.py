"""Frame streams: one frame at a time, never the whole clip in memory.

Decoder, interpolator, reverser and encoder are generators that pull from each other. A frame on its way is a
uint8 RGB array; only the decoder's end of the chain knows floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import MediaError

__all__ = [
    "Frame",
    "FrameStream",
    "close",
    "image_frames",
    "tee",
    "to_image",
    "to_tensor",
    "to_uint8",
    "video_frames",
]

Frame: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 RGB. Whoever yields one never writes to it again."""

FrameStream: TypeAlias = Iterator[Frame]


def to_uint8(frame: Tensor, *, low: float = -1.0) -> Frame:
    """(3, H, W) float with values in [low, 1] -> (H, W, 3) uint8, rounded to the nearest level.

    Values outside the range are clipped. Converts where the tensor is: a frame crosses the bus as bytes.

    Raises:
        MediaError: the frame contains NaN or infinity; a black or grey image would hide that.
    """
    _require_finite(frame)
    levels = (frame.float() - low) * (255.0 / (1.0 - low))
    pixels = levels.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    return np.asarray(pixels.cpu().numpy(), dtype=np.uint8)


def to_image(frame: Tensor) -> Tensor:
    """(3, H, W) in [-1, 1] -> (H, W, 3) float32 in [0, 1] on the CPU, as in a ComfyUI IMAGE.

    Raises:
        MediaError: as `to_uint8`.
    """
    _require_finite(frame)
    return (frame.float().permute(1, 2, 0) * 0.5 + 0.5).clamp_(0, 1).cpu()


def to_tensor(frame: Frame, device: str | torch.device) -> Tensor:
    """The way back: (H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1]. Crosses the bus as bytes."""
    pixels = torch.from_numpy(np.array(frame))  # a copy: torch warns of arrays that cannot be written to
    return pixels.to(device).permute(2, 0, 1)[None].float() / 255


def video_frames(decoded: Iterator[Tensor]) -> FrameStream:
    """Decoder output, (3, H, W) in [-1, 1] each, as a frame stream."""
    try:
        for frame in decoded:
            yield to_uint8(frame)
    finally:
        close(decoded)


def image_frames(images: Iterable[Tensor]) -> FrameStream:
    """A ComfyUI IMAGE, (N, H, W, 3) in [0, 1], as a frame stream. Alpha, if there is any, is left out."""
    for image in images:
        yield to_uint8(image[..., :3].permute(2, 0, 1), low=0.0)


def tee(frames: FrameStream, kept: list[Frame]) -> FrameStream:
    """Yield `frames` and append each one to `kept`."""
    for frame in frames:
        kept.append(frame)
        yield frame


def _require_finite(frame: Tensor) -> None:
    if not bool(torch.isfinite(frame).all()):
        raise MediaError(
            "a decoded frame contains NaN or infinite values; decode with the VAE in float32, or use another "
            "seed"
        )


def close(stream: Iterable[object]) -> None:
    """Tell a generator that nobody will pull from it again.

    Every stage does this for its source. Waiting for the garbage collector is not enough: the traceback of an
    error keeps the whole chain alive, and with it the decoder's memory and the temporary file.
    """
    end = getattr(stream, "close", None)
    if end is not None:
        end()
