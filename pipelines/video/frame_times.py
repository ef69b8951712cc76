"""Says when the frames of a file are shown, and which of them a constant rate shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameTimes"]

# Rates that cameras, screens and broadcasts use (SMPTE ST 2036-1 and the multiples of 8 and 10 of animation).
_USUAL = tuple(
    Fraction(numerator, denominator)
    for numerator, denominator in (
        *((n, 1) for n in (5, 8, 10, 12, 15, 16, 20, 24, 25, 30, 48, 50, 60, 75, 90, 100, 120, 144, 240)),
        *((n * 1000, 1001) for n in (24, 30, 48, 60, 120)),
    )
)
_LOST = 0.02  # share of frames that may fall into the instant of another one where a rate is chosen
_ALIKE = Fraction(1, 500)
_CONSTANT = Fraction(1, 2)  # of a frame: at a constant rate none is farther from its place
_MEASURED = Fraction(1, 4)  # of a frame, for a rate that no file states: less than one lost frame makes


@dataclass(frozen=True)
class FrameTimes:
    """When each frame of a file appears.

    starts: (n,) seconds, rising, from the first frame on, so that starts[0] is 0.
    end:    when the last frame disappears, in seconds.
    stated: the rate that the file states, in frames per second.
    """

    starts: NDArray[np.float64]
    end: float
    stated: Fraction

    @cached_property
    def is_constant(self) -> bool:
        """Whether every frame is shown within half a frame of where `rate` puts it."""
        return self.deviation_s(self.rate) <= _CONSTANT / self.rate

    @cached_property
    def rate(self) -> Fraction:
        """The constant rate of the file. For a varying one, the lowest usual rate that keeps its frames."""
        if self.deviation_s(self.stated) <= _CONSTANT / self.stated:
            return self.stated
        measured = _measured(self.starts) or self.stated
        for rate in (_nearest_usual(measured), measured):
            if self.deviation_s(rate) <= _MEASURED / rate:
                return rate
        return self._rate_that_keeps_frames()

    @property
    def largest_deviation_s(self) -> float:
        """How far the farthest frame is from a constant rate, in seconds: from `rate`, else from the mean."""
        return self.deviation_s(self.rate if self.is_constant else _measured(self.starts) or self.stated)

    def deviation_s(self, rate: Fraction) -> float:
        """Return how far the farthest frame is from where `rate` would put it, in seconds."""
        return float(np.abs(self.starts - np.arange(len(self.starts)) / float(rate)).max())

    def slots(self, rate: Fraction, lead: int = 0) -> NDArray[np.int64]:
        """Return the instant of `rate` that is nearest to each frame: (n,) rising.

        lead: the instants before the first frame. Two frames may have one instant; the later one is shown.
        """
        if rate == self.rate and self.is_constant:
            return np.arange(len(self.starts), dtype=np.int64) + lead
        return _nearest(self.starts * float(rate)) + lead

    def count(self, rate: Fraction, lead: int = 0) -> int:
        """Return how many frames the clip has at `rate`."""
        slots = self.slots(rate, lead)
        if rate == self.rate and self.is_constant:
            return int(slots[-1]) + 1
        return max(int(_nearest(np.array([self.end * float(rate)]))[0]) + lead, int(slots[-1]) + 1)

    def _rate_that_keeps_frames(self) -> Fraction:
        for rate in sorted(_USUAL):
            slots = _nearest(self.starts * float(rate))
            if len(np.unique(slots)) >= (1 - _LOST) * len(slots):
                # 30 and 30000/1001 keep the same frames: the one whose instants lie nearer to them.
                alike = [usual for usual in _USUAL if abs(usual / rate - 1) < _ALIKE]
                return min(alike, key=lambda usual: _distance(self.starts * float(usual)))
        return max(_USUAL)

    @classmethod
    def of(cls, spans: Iterable[tuple[float, float]], stated: Fraction) -> FrameTimes:
        """Collect (start, end) in seconds of all frames. 16 bytes are kept for each."""
        pairs = np.fromiter((number for span in spans for number in span), np.float64).reshape(-1, 2)
        return cls(pairs[:, 0], float(pairs[-1, 1]) if len(pairs) else 0.0, stated)


def _distance(places: NDArray[np.float64]) -> float:
    """Return how far the places are from whole instants, in the mean."""
    return float(np.abs(places - np.round(places)).mean())


def _measured(starts: NDArray[np.float64]) -> Fraction | None:
    """Return the rate at which the frames come on average."""
    seconds = float(starts[-1] - starts[0])
    return Fraction((len(starts) - 1) / seconds).limit_denominator(1001) if seconds > 0 else None


def _nearest_usual(rate: Fraction) -> Fraction:
    return min(_USUAL, key=lambda usual: abs(usual / rate - 1))


def _nearest(places: NDArray[np.float64]) -> NDArray[np.int64]:
    # A frame in the middle of two instants belongs to the later one, whatever its time was rounded to.
    return np.floor(places + 0.5 + 1e-6).astype(np.int64)
