"""Measures how alike two videos are, and how much moves in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .frame_stream import Frame

__all__ = ["Likeness", "LikenessMeter", "ssim"]

_WINDOW = 7  # pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601

_Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Likeness:
    """ssim:   mean over all frames; 1 for equal videos.
    motion: mean difference of a pixel between two frames that follow each other, in levels of 0 to 255.
    """

    ssim: float
    motion: float


class LikenessMeter:
    """Compares a video with another one while their frames are read."""

    def __init__(self) -> None:
        self._similar: list[float] = []
        self._moved: list[float] = []
        self._before: _Plane | None = None

    def add(self, frame: Frame, other: Frame) -> None:
        """Take the next frame of the video, and that of the other one. They have one size."""
        plane = _luma(frame)
        self._similar.append(1.0 if frame is other else _ssim(plane, _luma(other)))
        if self._before is not None:
            self._moved.append(float(np.abs(plane - self._before).mean()))
        self._before = plane

    def result(self) -> Likeness:
        return Likeness(float(np.mean(self._similar)), float(np.mean(self._moved)) if self._moved else 0.0)


def ssim(frame: Frame, other: Frame) -> float:
    """Return the structural similarity of two frames of one size, on luma.

    Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment, 2004, equation 13, with their K1 and K2,
    over uniform windows of 7x7 pixels and unbiased variances. A smaller frame has smaller windows.
    """
    return _ssim(_luma(frame), _luma(other))


def _ssim(one: _Plane, two: _Plane) -> float:
    size = min(_WINDOW, *one.shape)
    count = size * size
    unbiased = count / (count - 1) if count > 1 else 1.0
    mean_one, mean_two = _means(one, size), _means(two, size)
    variance_one = (_means(one * one, size) - mean_one**2) * unbiased
    variance_two = (_means(two * two, size) - mean_two**2) * unbiased
    together = (_means(one * two, size) - mean_one * mean_two) * unbiased
    above = (2 * mean_one * mean_two + _C1) * (2 * together + _C2)
    below = (mean_one**2 + mean_two**2 + _C1) * (variance_one + variance_two + _C2)
    return float((above / below).mean())


def _means(plane: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Return the mean of every whole window of `size` x `size` pixels."""
    sums = np.pad(plane.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    means: NDArray[np.float64] = windows / (size * size)
    return means


def _luma(frame: Frame) -> _Plane:
    plane: _Plane = frame.astype(np.float32) @ _LUMA
    return plane
