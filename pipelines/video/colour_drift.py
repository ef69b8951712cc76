"""Measures how far the colours of a continued shot are from those before it, and corrects them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .frame_stream import Frame

__all__ = ["OPENING", "Drift"]

OPENING = 4
"""Frames, those of one latent frame: at the first ones of a shot the VAE has not settled yet."""

_ROUNDS = 4  # the last ones change nothing any more where half of a frame moves
_LEAST_DEVIATION = 8.0  # levels of 0 to 255: in a flatter image a little movement looks like another contrast
_NOISE = 4.0  # levels


@dataclass
class Drift:
    """How much the colours at the beginning of continued shots differ from those before them.

    matched:   correct every frame of such a shot by it.
    per_shot:  {number of the shot: the mean difference of each channel of what stands still, in levels of 0
               to 255}, filled while frames are joined.
    """

    matched: bool = False
    per_shot: dict[int, list[float]] = field(default_factory=dict)

    def correction(
        self, number: int, opening: Sequence[Frame], before: Frame
    ) -> Callable[[Frame], Frame] | None:
        """Measure a shot by its first frames that are shown and the frame before them.

        Returns what corrects a frame of that shot; None if none is wanted.
        """
        mean, gain, wanted = _transfer(np.stack(opening).astype(np.float32), before.astype(np.float32))
        self.per_shot[number] = [round(float(level), 3) for level in mean - wanted]

        def correct(frame: Frame) -> Frame:
            levels = (frame.astype(np.float32) - mean) * gain + wanted
            return np.asarray(np.clip(np.rint(levels), 0, 255), dtype=np.uint8)

        return correct if self.matched else None


def _transfer(frames: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, gain and wanted mean of each channel, with which `frames` get the colours of `before`.

    frames: (N, H, W, 3) in levels. before: (H, W, 3).

    It is the transfer of mean and deviation of Reinhard, Ashikhmin, Gooch and Shirley, Color Transfer between
    Images, 2001, section 3, on the channels of RGB, of those pixels alone that stand still. What moves is no
    change of colours: a pixel moves if the transfer leaves it farther off than three standard deviations of
    noise, estimated from the median of all pixels.
    """
    average = frames.mean(0)
    still = np.ones(before.shape[:2], bool)
    for _ in range(_ROUNDS):
        (mean, deviation), (wanted, wanted_deviation) = (
            _statistics(frames[:, still]),
            _statistics(before[still]),
        )
        measurable = np.minimum(deviation, wanted_deviation) > _LEAST_DEVIATION
        gain = np.where(measurable, wanted_deviation / np.maximum(deviation, _LEAST_DEVIATION), 1)
        off = np.abs((average - mean) * gain + wanted - before).max(-1)
        still = off <= 3 * 1.4826 * np.median(off) + _NOISE
    return mean, gain, wanted


def _statistics(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    channels = levels.reshape(-1, 3).astype(np.float64)
    return channels.mean(0).astype(np.float32), channels.std(0).astype(np.float32)
