"""What the numbers are where a kind of request has no field for them.

Turbo: the provider names no length or steps; these are the official clip and the four steps that the
Lightning LoRAs are distilled for (LightX2V step_distill/scheduler.py: shift 5, guidance off).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..request import WanRequest

__all__ = ["grid_of", "is_image", "values_of"]

_ALWAYS: Mapping[str, Any] = {
    "num_frames": 81,
    "strength": 1.0,
    "shift": 5.0,
    "interpolator_model": "none",
    "num_interpolated_frames": 0,
    "adjust_fps_for_interpolation": True,
    "video_quality": "high",
    "video_write_mode": "balanced",
    "reverse_video": False,
}
_IMAGE: Mapping[str, Any] = {"num_frames": 1, "image_format": "png"}
_TURBO: Mapping[str, Any] = {
    "num_inference_steps": 4,
    "guidance_scale": 1.0,
    "guidance_scale_2": 1.0,
    "grid": "lightning",
}
_OF_TASK: Mapping[str, Mapping[str, Any]] = {
    "text-to-image": _IMAGE,
    "image-to-image": _IMAGE,
    "small-text-to-image": _IMAGE,
    "turbo-text-to-video": _TURBO,
    "turbo-image-to-video": _TURBO,
    "small-fast-video": {"num_inference_steps": 3, "shift": 8.0, "grid": "dmd"},
}
# What a kind calls by another name.
_SAME = {"steps": "num_inference_steps", "flow_shift": "shift"}


def values_of(request: WanRequest) -> dict[str, Any]:
    """Every value that a plan needs: as asked, else what the task implies, else the usual."""
    asked = {_SAME.get(name, name): value for name, value in request if value is not None}
    return {**_ALWAYS, **_OF_TASK.get(request.task, {}), **asked}


def grid_of(request: WanRequest) -> str | None:
    """The sigma grid that the weights of a task are distilled for; None where any will do."""
    grid: str | None = _OF_TASK.get(request.task, {}).get("grid")
    return grid


def is_image(request: WanRequest) -> bool:
    return _OF_TASK.get(request.task) is _IMAGE
