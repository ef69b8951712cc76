"""Context windows: a clip longer than the model was trained on, denoised in overlapping parts.

At each step every window is predicted alone, and the velocities are averaged (FreeNoise,
arxiv.org/abs/2310.15169; AnimateDiff-Evolved). Memory follows the window, time the number of windows. This is
lossy by choice: a window knows nothing of what the others draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from ..request.window_settings import FuseName, ScheduleName, window_overlap
from .window_schedules import Window, windows_of

__all__ = ["ContextWindows", "at_once", "steps_of_stages"]


@dataclass(frozen=True)
class ContextWindows:
    """The windows of a run, in latent frames.

    frames:       of the clip.
    length:       of a window, below `frames`.
    overlap:      that neighbours share, below `length`.
    retain_first: every window sees the first image in the place of its first frame.
    freenoise:    the noise of later frames is that of the first window, shuffled.

    schedule, stride, closed_loop: as in `windows_of`. fuse: as in `shares`.
    """

    frames: int
    length: int
    overlap: int
    schedule: ScheduleName
    stride: int
    closed_loop: bool
    fuse: FuseName
    retain_first: bool
    freenoise: bool

    def at(self, step: int) -> tuple[Window, ...]:
        """Return the windows of a step. step: from 0 in each stage, as in ComfyUI."""
        return windows_of(
            self.schedule, self.frames, self.length, self.overlap, step, self.stride, self.closed_loop
        )

    def counts(self, experts: Sequence[str]) -> list[int]:
        """Return how many windows each step has. experts: of the steps that run."""
        return [len(self.at(step)) for step in steps_of_stages(experts)]

    @property
    def most_frames(self) -> int:
        """The latent frames of the largest forward: a window that begins later sees one frame before it."""
        return self.length + 1

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` gives an equal value back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ContextWindows:
        """Raises TypeError when keys are unknown."""
        return cls(**data)

    @classmethod
    def of_values(cls, values: Mapping[str, Any], frames: int, stride_t: int) -> ContextWindows | None:
        """Return the windows among the resolved values; None without them, or where one has the whole clip.

        frames: latent frames of the clip. stride_t: pixel frames of a latent frame.
        """
        asked = values.get("context_frames")
        if asked is None or frames <= (asked - 1) // stride_t + 1:
            return None
        return cls(
            frames=frames,
            length=(asked - 1) // stride_t + 1,
            overlap=window_overlap(asked, values["context_overlap"]) // stride_t,
            schedule=values["context_schedule"],
            stride=values["context_stride"],
            closed_loop=values["context_closed_loop"],
            fuse=values["context_fuse"],
            retain_first=values["context_retain_first"],
            freenoise=values["freenoise"],
        )


def at_once(latent_shape: Sequence[int], windows: ContextWindows | None) -> tuple[int, ...]:
    """Return the shape (..., T, H/8, W/8) of the largest forward. windows: None for the whole clip."""
    frames = latent_shape[-3] if windows is None else windows.most_frames
    return (*latent_shape[:-3], frames, *latent_shape[-2:])


def steps_of_stages(experts: Sequence[str]) -> list[int]:
    """Return the number of each step inside its stage, from 0. A stage is a row of steps of one expert."""
    return [step for _, stage in groupby(experts) for step, _ in enumerate(stage)]
