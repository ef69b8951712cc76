"""Joins the frames of several shots to those of one video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..request.joins import Join
from .frame_stream import Frame, FrameStream, close

__all__ = ["Drift", "joined"]


@dataclass
class Drift:
    """How much the first frame of a continued shot differs from the frame that it was given.

    matched:   correct every frame of such a shot by it.
    per_shot:  {number of the shot: the mean difference of each channel, in levels of 0 to 255}, filled while
               frames are joined.
    """

    matched: bool = False
    per_shot: dict[int, list[float]] = field(default_factory=dict)


def joined(
    joins: Sequence[Join], shot: Callable[[int, Sequence[Frame]], FrameStream], drift: Drift
) -> Generator[Frame, None, None]:
    """Yield the frames of all shots as those of one video.

    joins: how each shot joins the one before.
    shot:  returns the frames of a shot, given its number and the last frames of the shot before: those with
           which it begins. It is called when they are known.

    Holds as many frames as the longest overlap and the longest dissolve take, and two more.
    """
    ending: list[Frame] = []  # the end of the shot before, to be mixed
    before: Sequence[Frame] = ()
    for number, join in enumerate(joins):
        following = joins[number + 1] if number + 1 < len(joins) else Join("cut")
        recent: deque[Frame] = deque()
        last: deque[Frame] = deque(maxlen=following.given)
        stream = shot(number, before)
        correct: Callable[[Frame], Frame] = _unchanged
        try:
            for index, frame in enumerate(stream):
                if index < join.given:
                    if index == join.given - 1:
                        drift.per_shot[number] = _difference(frame, before[-1])
                        correct = _like(frame, before[-1]) if drift.matched else _unchanged
                    continue  # it was shown
                made = correct(frame)
                last.append(made)
                recent.append(_mixed(ending, index, made) if index < len(ending) else made)
                if len(recent) > following.mixed:
                    yield recent.popleft()
        finally:
            close(stream)
        ending, before = list(recent), tuple(last)


def _unchanged(frame: Frame) -> Frame:
    return frame


def _mixed(ending: Sequence[Frame], index: int, frame: Frame) -> Frame:
    """Mix the frames at one place of a dissolve. The share of the new shot grows by equal steps."""
    share = (index + 1) / (len(ending) + 1)
    mixed = ending[index].astype(np.float32) * (1 - share) + frame.astype(np.float32) * share
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def _difference(frame: Frame, wanted: Frame) -> list[float]:
    means = frame.mean(axis=(0, 1), dtype=np.float64) - wanted.mean(axis=(0, 1), dtype=np.float64)
    return [round(float(level), 3) for level in means]


def _like(frame: Frame, wanted: Frame) -> Callable[[Frame], Frame]:
    """Return a correction that gives each channel of `frame` the mean and the deviation of `wanted`.

    It is the transfer of mean and deviation of Reinhard, Ashikhmin, Gooch and Shirley, Color Transfer between
    Images, 2001, section 3, on the channels of RGB.
    """
    mean, deviation = _statistics(frame)
    wanted_mean, wanted_deviation = _statistics(wanted)
    gain = np.where(deviation > 0, wanted_deviation / np.maximum(deviation, 1e-6), 1.0)

    def correct(other: Frame) -> Frame:
        levels = (other.astype(np.float32) - mean) * gain + wanted_mean
        return np.asarray(np.clip(np.rint(levels), 0, 255), dtype=np.uint8)

    return correct


def _statistics(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    levels = frame.astype(np.float64)
    return levels.mean(axis=(0, 1)).astype(np.float32), levels.std(axis=(0, 1)).astype(np.float32)
