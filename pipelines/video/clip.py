"""Reads the frames that a request needs from an input video or image."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MediaError
from .frame_stream import Frame, close
from .frames import to_tensor
from .image_tensor import fit
from .read import TimedFrame, read_timed_frames
from .read_image import read_image

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["clip_frames", "clip_size", "count_frames", "frames_of_image"]

_CLOSE = Fraction(1, 1000)  # seconds; some containers round times to milliseconds


def clip_size(content: Path | bytes) -> tuple[int, int]:
    """Return (width, height) of a video in pixels, upright. Raises MediaError without a frame."""
    with closing(_at_rate(read_timed_frames(content), None)) as timed_frames:
        first = next(timed_frames, None)
        if first is None:
            raise MediaError("the video contains no frames; use another file")
        height, width = first.frame().shape[:2]
        return width, height


def count_frames(content: Path | bytes, fps: Fraction | None, most: int) -> int:
    """Count the frames that `clip_frames` would find at `fps`, up to `most`."""
    with closing(_at_rate(read_timed_frames(content), fps)) as timed_frames:
        return sum(1 for _ in islice(timed_frames, most))


def clip_frames(
    content: Path | bytes, *, fps: Fraction | None, count: int, padded: int, width: int, height: int
) -> Iterator[Tensor]:
    """Yield the first `count` frames of a video, and then repeat the last one until there are `padded`.

    fps: choose the frame that is visible at each 1/fps of a second. None uses every frame in order.

    Frames are (3, height, width) in [-1, 1], resized to cover that size and cropped in the centre. Raises
    MediaError if the video cannot be read or has fewer than `count` frames.
    """
    before: TimedFrame | None = None
    frame: Tensor | None = None
    made = 0
    with closing(_at_rate(read_timed_frames(content), fps)) as timed_frames:
        for timed in islice(timed_frames, count):
            if frame is None or timed is not before:
                before, frame = timed, _fitted(timed.frame(), width, height)
            made += 1
            yield frame
    if frame is None or made < count:
        raise MediaError(f"the video has {made} frames, but {count} are needed; use a longer one")
    yield from repeat(frame, padded - made)


def frames_of_image(content: Path | bytes, *, width: int, height: int) -> Iterator[Tensor]:
    """Yield the only frame of an image, (3, height, width) in [-1, 1], resized and cropped as in
    `clip_frames`.

    Raises MediaError if it is not a readable image.
    """
    yield _to_signed(fit(read_image(content)[None], width, height))


def _fitted(frame: Frame, width: int, height: int) -> Tensor:
    return _to_signed(fit(to_tensor(frame, "cpu").movedim(1, -1), width, height))


def _to_signed(image: Tensor) -> Tensor:
    """Convert (1, H, W, 3) in [0, 1] to (3, H, W) in [-1, 1]."""
    return image[0].movedim(-1, 0) * 2 - 1


def _at_rate(timed_frames: Iterator[TimedFrame], fps: Fraction | None) -> Generator[TimedFrame, None, None]:
    """Yield all frames, or the frame that is visible at 0, 1/fps, 2/fps, ... seconds.

    Repeats frames of a video with a lower rate.
    """
    shown: TimedFrame | None = None
    number = 0
    try:
        for timed in timed_frames:
            if fps is None:
                yield timed
                continue
            while shown is not None and number / fps + _CLOSE < timed.seconds:
                yield shown
                number += 1
            shown = timed
        while shown is not None and fps is not None and number / fps + _CLOSE < shown.end:
            yield shown
            number += 1
    finally:
        close(timed_frames)
