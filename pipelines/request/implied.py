"""The values that a kind of request has no field for.

Turbo: the provider names no length or steps; these are the official clip and the four steps that the
Lightning LoRAs are distilled for (LightX2V step_distill/scheduler.py: shift 5, guidance off).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["IMAGE_TASKS", "implied_by", "plan_name"]

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
IMAGE_TASKS = ("text-to-image", "image-to-image", "small-text-to-image")
_OF_TASK: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(IMAGE_TASKS, _IMAGE),
    "turbo-text-to-video": _TURBO,
    "turbo-image-to-video": _TURBO,
    "small-fast-video": {"num_inference_steps": 3, "shift": 8.0, "grid": "dmd"},
}
_SAME = {"steps": "num_inference_steps", "flow_shift": "shift"}  # field of some kinds -> name in the plan


def implied_by(task: str) -> Mapping[str, Any]:
    """Return {name: value} for the values a task has no field for. grid: the sigma grid of its weights."""
    return {**_ALWAYS, **_OF_TASK.get(task, {})}


def plan_name(field: str) -> str:
    """Return the name of a field in the plan."""
    return _SAME.get(field, field)
