"""Finds cuts between two frames of a clip, so that no interpolator draws across them.

Two frames are of different shots if motion does not explain how they differ: small pictures of them are cut
into blocks, and each block is searched for in the other frame. A fast pan takes much of the picture out of
sight, so the pictures are laid over each other, too, and compared where both show something. A fade only
changes the light. A flash differs as well, but what follows it looks again like what was before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..request.result_formats import SCENE_THRESHOLD
from .frame_stream import Frame, close

__all__ = ["SCENE_THRESHOLD", "Between", "frames_between", "marked", "unexplained"]

_Item = TypeVar("_Item")

Thumb = NDArray[np.float32]
"""(36, 64, 3), 0 to 1: a small picture of a frame."""

_WIDTH, _HEIGHT = 64, 36
_BLOCK = 8, 9  # columns and rows of a block
_REACH = 16, 9  # how far a block may have moved: a quarter of the picture
_PAN = 22, 13  # how far the whole picture may have moved: a third of it
_ALIKE = 0.95  # correlation of two pictures of which one is a darker copy; unrelated shots have up to 0.44
_AROUND = 3  # frames looked at on each side of a cut; a flash is one or two frames long
_LEAST = 0.02  # mean difference of two shots; grain of sigma 20 of 255 on a plain ground gives 0.018
_SAME, _SAME_ANYWHERE = 0.5, 8  # of 255, mean and largest: what an encoder adds to a frame that is repeated


class Between(Protocol):
    """Makes frames between two frames, see `more_frames.Interpolator`."""

    def between(self, a: Frame, b: Frame, times: Sequence[float]) -> Sequence[Frame]:
        """Return a frame for each of `times`."""


def marked(
    items: Iterator[_Item], picture: Callable[[_Item], Frame], threshold: float = SCENE_THRESHOLD
) -> Iterator[tuple[_Item, bool]]:
    """Yield each item, and whether a cut lies between it and the one before. Holds three items ahead.

    picture: returns the frame of an item. threshold: see `unexplained`; 1 finds no cuts.
    """
    seen: deque[Thumb] = deque(maxlen=_AROUND)
    ahead: deque[tuple[_Item, Thumb]] = deque()
    try:
        while True:
            ahead.extend((item, _thumb(picture(item))) for item in islice(items, _AROUND - len(ahead)))
            if not ahead:
                return
            cut = bool(seen) and _is_cut([*seen], [small for _, small in ahead], threshold)
            item, small = ahead.popleft()
            yield item, cut
            seen.append(small)
    finally:
        close(items)


def frames_between(
    interpolator: Between, a: Frame, b: Frame, times: Sequence[float], cut: bool
) -> Iterable[Frame]:
    """Return the frames at `times` between two frames: the nearer one across a cut, `a` if `b` repeats it."""
    if cut:
        return [a if t < 0.5 else b for t in times]
    if _is_repeated(a, b):
        return [a for _ in times]
    return interpolator.between(a, b, times)


def unexplained(a: Thumb, b: Thumb) -> float:
    """Return how much of the difference no motion explains, 0 to 1, relative to the frames' contrast."""
    return _share(float(np.mean(_best_matches(a, b))), a, b)


def _is_repeated(a: Frame, b: Frame) -> bool:
    # The mean alone would take a small thing that moves before a still background for noise.
    difference = np.abs(a.astype(np.int16) - b)
    return bool(difference.mean() <= _SAME and difference.max() <= _SAME_ANYWHERE)


def _differ(a: Thumb, b: Thumb, threshold: float) -> bool:
    in_place = float(np.abs(a - b).mean())
    if in_place <= _LEAST or _share(in_place, a, b) <= threshold:
        return False  # Motion only explains more: most pairs need no search.
    return unexplained(a, b) > threshold


def _share(rest: float, a: Thumb, b: Thumb) -> float:
    contrast = float(_contrast(a) + _contrast(b)) / 2
    return rest / (rest + contrast) if rest else 0.0


def _is_cut(before: Sequence[Thumb], after: Sequence[Thumb], threshold: float) -> bool:
    """Return whether a cut lies between before[-1] and after[0].

    A flash is no cut: a frame on one side of it looks like one on the other.
    """
    last, first = before[-1], after[0]
    if not _differ(last, first, threshold) or _is_fade(last, first) or _is_pan(last, first, threshold):
        return False
    beside = [(a, b) for a in before for b in after if a is not last or b is not first]
    return all(_differ(a, b, threshold) for a, b in beside)


def _thumb(frame: Frame) -> Thumb:
    small = Image.fromarray(np.ascontiguousarray(frame)).resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)
    pixels: Thumb = np.asarray(small, np.float32) / np.float32(255)
    return pixels


def _contrast(a: Thumb) -> float:
    return float(np.abs(a - a.mean((0, 1))).mean())


def _best_matches(a: Thumb, b: Thumb) -> NDArray[np.float64]:
    """Return the smallest difference of each block of `a` from what lies near its place in `b`."""
    columns, rows = _BLOCK
    right, down = _REACH
    wide = np.pad(b, ((down, down), (right, right), (0, 0)), mode="edge")
    best = np.full((_HEIGHT // rows, _WIDTH // columns), np.inf)
    for shifted in _shifted(wide):
        difference = np.abs(a - shifted).mean(-1)
        cells = difference.reshape(_HEIGHT // rows, rows, _WIDTH // columns, columns)
        np.minimum(best, cells.mean((1, 3)), out=best)
    return best


def _is_fade(a: Thumb, b: Thumb) -> bool:
    """Return whether both show the same in other light."""
    x, y = a - a.mean(), b - b.mean()
    return float((x * y).sum()) > _ALIKE * float(np.sqrt((x * x).sum() * (y * y).sum()))


def _is_pan(a: Thumb, b: Thumb, threshold: float) -> bool:
    """Return whether both pictures agree where they overlap, one of them moved as a whole."""
    right, down = _PAN
    moves = ((x, y) for y in range(-down, down + 1) for x in range(-right, right + 1))
    overlaps = ((_without_edge(a, x, y), _without_edge(b, -x, -y)) for x, y in moves)
    return _share(min(float(np.abs(one - other).mean()) for one, other in overlaps), a, b) <= threshold


def _without_edge(small: Thumb, x: int, y: int) -> Thumb:
    """Return the picture without its first `x` columns and `y` rows, or the last ones if negative."""
    return small[max(y, 0) : _HEIGHT + min(y, 0), max(x, 0) : _WIDTH + min(x, 0)]


def _shifted(wide: Thumb) -> Iterator[Thumb]:
    for top in range(wide.shape[0] - _HEIGHT + 1):
        for left in range(0, wide.shape[1] - _WIDTH + 1, 2):
            yield wide[top : top + _HEIGHT, left : left + _WIDTH]
