"""The frames that a request needs of a video, or a picture, that comes in."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path

from torch import Tensor

from ..errors import MediaError
from .frames import Frame, close, to_tensor
from .picture import fit, read_picture
from .read import Picture, read_pictures

__all__ = ["clip_frames", "clip_size", "count_frames", "picture_frames"]

_CLOSE = Fraction(1, 1000)  # seconds; containers that count in milliseconds round a picture's time to one


def clip_size(content: Path | bytes) -> tuple[int, int]:
    """(width, height) in pixels, upright. Raises MediaError when there is no picture."""
    with closing(_chosen(read_pictures(content), None)) as pictures:
        first = next(pictures, None)
        if first is None:
            raise MediaError("the video has no picture in it; give another one")
        height, width = first.frame().shape[:2]
        return width, height


def count_frames(content: Path | bytes, fps: Fraction | None, most: int) -> int:
    """How many frames `clip_frames` has for these, looked for no further than `most`."""
    with closing(_chosen(read_pictures(content), fps)) as pictures:
        return sum(1 for _ in islice(pictures, most))


def clip_frames(
    content: Path | bytes, *, fps: Fraction | None, count: int, padded: int, width: int, height: int
) -> Iterator[Tensor]:
    """The first `count` frames of a video, then its last one again until there are `padded`.

    fps: take what is on the screen at each 1/fps of a second; None takes one frame after the other.

    Yields (3, height, width) in [-1, 1], resized to cover that size and cropped in the centre. MediaError
    when the video cannot be read or has fewer than `count`.
    """
    before: Picture | None = None
    frame: Tensor | None = None
    made = 0
    with closing(_chosen(read_pictures(content), fps)) as pictures:
        for picture in islice(pictures, count):
            if frame is None or picture is not before:
                before, frame = picture, _fitted(picture.frame(), width, height)
            made += 1
            yield frame
    if frame is None or made < count:
        raise MediaError(f"the video has {made} frames, and {count} are needed; give a longer one")
    yield from repeat(frame, padded - made)


def picture_frames(content: Path | bytes, *, width: int, height: int) -> Iterator[Tensor]:
    """The one frame of a picture, (3, height, width) in [-1, 1], brought to that size as `clip_frames` does.

    MediaError when it is not a readable picture.
    """
    yield _levelled(fit(read_picture(content)[None], width, height))


def _fitted(frame: Frame, width: int, height: int) -> Tensor:
    return _levelled(fit(to_tensor(frame, "cpu").movedim(1, -1), width, height))


def _levelled(picture: Tensor) -> Tensor:
    """(1, H, W, 3) in [0, 1] -> (3, H, W) in [-1, 1]."""
    return picture[0].movedim(-1, 0) * 2 - 1


def _chosen(pictures: Iterator[Picture], fps: Fraction | None) -> Generator[Picture, None, None]:
    """All of them, or the one on the screen at 0, 1/fps, 2/fps, ...; the same one again in a slow video."""
    shown: Picture | None = None
    number = 0
    try:
        for picture in pictures:
            if fps is None:
                yield picture
                continue
            while shown is not None and number / fps + _CLOSE < picture.seconds:
                yield shown
                number += 1
            shown = picture
        while shown is not None and fps is not None and number / fps + _CLOSE < shown.end:
            yield shown
            number += 1
    finally:
        close(pictures)
