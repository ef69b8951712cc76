"""Joins the frames of several shots to those of one video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import islice

import numpy as np

from ..request.joins import Join
from .colour_drift import OPENING, Drift
from .frame_stream import Frame, FrameStream, close

__all__ = ["joined"]


def joined(
    joins: Sequence[Join], shot: Callable[[int, Sequence[Frame]], FrameStream], drift: Drift
) -> Generator[Frame, None, None]:
    """Yield the frames of all shots as those of one video.

    joins: how each shot joins the one before.
    shot:  returns the frames of a shot, given its number and the last frames of the shot before: those with
           which it begins. It is called when they are known.

    Holds as many frames as the longest overlap and the longest dissolve take, and six more.
    """
    ending: list[Frame] = []  # the end of the shot before, to be mixed
    before: Sequence[Frame] = ()
    for number, join in enumerate(joins):
        following = joins[number + 1] if number + 1 < len(joins) else Join("cut")
        recent: deque[Frame] = deque()
        last: deque[Frame] = deque(maxlen=following.given)
        stream = shot(number, before)
        try:
            for index, frame in enumerate(_shown(stream, join, number, before, drift)):
                last.append(frame)
                recent.append(_mixed(ending, index, frame) if index < len(ending) else frame)
                if len(recent) > following.mixed:
                    yield recent.popleft()
        finally:
            close(stream)
        ending, before = list(recent), tuple(last)


def _shown(
    stream: FrameStream, join: Join, number: int, before: Sequence[Frame], drift: Drift
) -> Generator[Frame, None, None]:
    """Yield the frames of a shot that were not shown before it, in its colours or in those before it."""
    frames = iter(stream)
    for _ in islice(frames, join.given):
        pass
    opening = deque(islice(frames, OPENING if join.given else 0))
    correct = drift.correction(number, opening, before[-1]) if opening else None
    while opening:
        frame = opening.popleft()
        yield correct(frame) if correct else frame
    yield from map(correct, frames) if correct else frames


def _mixed(ending: Sequence[Frame], index: int, frame: Frame) -> Frame:
    """Mix the frames at one place of a dissolve. The share of the new shot grows by equal steps."""
    share = (index + 1) / (len(ending) + 1)
    mixed = ending[index].astype(np.float32) * (1 - share) + frame.astype(np.float32) * share
    return np.asarray(np.rint(mixed), dtype=np.uint8)
