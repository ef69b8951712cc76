"""Says what a frame and a stream of frames are, and passes streams on.

Decoder, interpolator, reverser and encoder are generators that pull from each other, so that a clip is never
in memory as a whole. Needs no torch, which takes long to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "FrameStream", "close", "tee"]

Frame: TypeAlias = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 RGB, or (H, W, 4) with straight alpha where transparency is kept. Not modified after it was
yielded."""

FrameStream: TypeAlias = Iterator[Frame]


def tee(frames: FrameStream, kept: list[Frame]) -> FrameStream:
    """Yield `frames` and append each one to `kept`."""
    for frame in frames:
        kept.append(frame)
        yield frame


def close(stream: Iterable[object]) -> None:
    """Close a generator that will not be read further.

    Every stage does this for its source. The garbage collector is too late: the traceback of an error
    references the whole chain, and so the memory of the decoder and the temporary file.
    """
    end = getattr(stream, "close", None)
    if end is not None:
        end()
