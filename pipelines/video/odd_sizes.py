"""Makes odd frame sizes even, for formats that store colour for blocks of 2x2 pixels."""

from __future__ import annotations

import numpy as np

from ..errors import MediaError
from .containers import ODD
from .frame_stream import FrameStream, close

__all__ = ["even_size", "evened"]


def even_size(width: int, height: int, odd: str, block: tuple[int, int]) -> tuple[int, int]:
    """Return the size after `odd`, one of `ODD`. block: what a width and a height must be multiples of.

    Raises MediaError where there is none.
    """
    if odd not in ODD:
        raise MediaError(f"odd sizes: got {odd!r}; give one of {', '.join(ODD)}")
    over = width % block[0], height % block[1]
    if odd == "refuse" or not any(over):
        return width, height
    if odd == "pad":
        return width + over[0], height + over[1]
    if 0 in (width - over[0], height - over[1]):
        raise MediaError(f"{width}x{height} pixels cannot be cropped to an even size; pad them")
    return width - over[0], height - over[1]


def evened(frames: FrameStream, width: int, height: int) -> FrameStream:
    """Yield the frames, cropped or padded at the right and the lower edge to that size."""
    try:
        for frame in frames:
            more = ((0, max(height - frame.shape[0], 0)), (0, max(width - frame.shape[1], 0)), (0, 0))
            yield np.pad(frame[:height, :width], more, mode="edge")
    finally:
        close(frames)
