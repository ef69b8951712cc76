"""How the windows of a step are averaged: the fuse methods of ComfyUI's context windows.

The weights are those of comfy/context_windows.py at v0.33.0, with the same names. `pyramid` follows FreeNoise
(arxiv.org/abs/2310.15169, section 3.3), `overlap-linear` ComfyUI-WanVideoWrapper. Tests compare them with
ComfyUI's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..request.window_settings import FuseName
from .window_schedules import Window

__all__ = ["shares"]

_Array = npt.NDArray[np.float64]
_LEAST = 1e-37  # the outermost frame of a linear overlap: it counts only where no other window has it
_LEAST_RELATIVE = 1e-2


def shares(fuse: FuseName, windows: Sequence[Window], frames: int, overlap: int) -> list[_Array]:
    """Return, for each window, the share that each of its frames has in the mean, in [0, 1].

    The shares of a frame sum to 1 over all windows. frames: of the clip. overlap: as in `windows_of`.
    """
    weights = [_weights(fuse, window, frames, overlap) for window in windows]
    totals = np.zeros(frames)
    for window, weight in zip(windows, weights, strict=True):
        np.add.at(totals, np.array(window), weight)
    return [weight / totals[np.array(window)] for window, weight in zip(windows, weights, strict=True)]


def _weights(fuse: FuseName, window: Window, frames: int, overlap: int) -> _Array:
    if fuse == "relative":
        return _relative(window)
    weights = np.ones(len(window))
    if fuse == "pyramid":
        weights = np.minimum(np.arange(len(window)) + 1.0, np.arange(len(window), 0.0, -1))
    elif fuse == "overlap-linear":
        weights = _faded(window, frames, overlap)
    return _last_of_each(window, weights)


def _faded(window: Window, frames: int, overlap: int) -> _Array:
    """Return 1, rising from 0 over the overlap with an earlier window, and falling to 0 with a later one."""
    weights = np.ones(len(window))
    if overlap and min(window) > 0:
        weights[:overlap] = np.linspace(_LEAST, 1, overlap)[: len(window)]
    if overlap and max(window) < frames - 1:  # an overlap of one frame falls to 1 alone, as in ComfyUI
        weights[-overlap:] = np.linspace(1, _LEAST, overlap)[-len(window) :]
    return weights


def _relative(window: Window) -> _Array:
    """Return 1 in the middle of the window, falling to nearly 0 at its ends. Above 1 in a closed loop."""
    first, last = window[0], window[-1]
    away = np.abs(np.array(window) - (first + last) / 2)
    weights: _Array = np.maximum(_LEAST_RELATIVE, 1 - away / ((last - first + 1e-2) / 2))
    return weights


def _last_of_each(window: Window, weights: _Array) -> _Array:
    """Return the weights with 0 for a frame that comes again later: a wide looped window may repeat some."""
    places = {frame: place for place, frame in enumerate(window)}
    return np.where([places[frame] == place for place, frame in enumerate(window)], weights, 0.0)
