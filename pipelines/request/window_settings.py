"""The settings of context windows: their names, and the overlap that nobody gave."""

from __future__ import annotations

from typing import Literal

__all__ = ["FuseName", "ScheduleName", "window_overlap"]

# The names of ComfyUI's node WanContextWindowsManual.
ScheduleName = Literal["standard_uniform", "standard_static", "looped_uniform", "batched"]
FuseName = Literal["pyramid", "relative", "flat", "overlap-linear"]

_USUAL_OVERLAP = 30  # the default of that node


def window_overlap(frames: int, asked: int | None) -> int:
    """Return the overlap of windows of so many frames. asked: None for 30, or half a window if less."""
    return min(_USUAL_OVERLAP, frames // 2) if asked is None else asked
