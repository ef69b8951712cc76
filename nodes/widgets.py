"""Request fields as widgets: which control a field gets, and what its setting says about the field.

The order of a node's widgets is fixed here and not taken from the class, because saved workflows know widgets
by position: a new field goes to the end, whatever its place in the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..pipelines.request import KINDS, SEED_MAX, FieldRow, field_table

__all__ = ["PROVIDER_DEFAULT", "TEXT_TO_VIDEO", "Widget", "chosen", "widgets"]

PROVIDER_DEFAULT = "provider default"
_SWITCH = {"on": True, "off": False}

TEXT_TO_VIDEO = (
    "prompt",
    "negative_prompt",
    "num_frames",
    "frames_per_second",
    "seed",
    "resolution",
    "aspect_ratio",
    "num_inference_steps",
    "guidance_scale",
    "guidance_scale_2",
    "shift",
    "acceleration",
    "interpolator_model",
    "num_interpolated_frames",
    "adjust_fps_for_interpolation",
    "video_quality",
    "video_write_mode",
    "enable_safety_checker",
    "enable_output_safety_checker",
    "enable_prompt_expansion",
    "reverse_video",
)


class Widget(NamedTuple):
    """type: "STRING", "INT", "FLOAT", "BOOLEAN" or "COMBO". `min` and `max` are included; None where open."""

    name: str
    type: str
    default: Any
    tooltip: str
    min: float | None = None
    max: float | None = None
    options: tuple[str, ...] = ()


def widgets(task: str, order: tuple[str, ...]) -> list[Widget]:
    """One widget for each name in `order`, with the widest range that any kind of the task allows."""
    union: dict[str, FieldRow] = {}
    for kind, cls in KINDS.items():
        if cls.task == task:
            for row in field_table(kind):
                union[row.name] = _wider(union[row.name], row) if row.name in union else row
    return [_widget(union[name]) for name in order]


def chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Widget settings -> field values; a field left to the provider is left out."""
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in _switches():
            values[name] = value
        elif value != PROVIDER_DEFAULT:
            values[name] = _SWITCH[value]
    return values


def _switches() -> set[str]:
    """Fields with a switch of three positions: a checkbox could not leave them to the provider."""
    return {row.name for kind in KINDS for row in field_table(kind) if _is_switch(row)}


def _is_switch(row: FieldRow) -> bool:
    return row.type == "boolean" and row.default is None


def _widget(row: FieldRow) -> Widget:
    low, high = row.range or (None, None)
    if row.name == "seed":
        return Widget(row.name, "INT", 0, row.description, 0, SEED_MAX)
    if row.enum is not None:
        return Widget(row.name, "COMBO", row.default, row.description, options=row.enum)
    if _is_switch(row):
        options = (PROVIDER_DEFAULT, *_SWITCH)
        return Widget(row.name, "COMBO", PROVIDER_DEFAULT, row.description, options=options)
    kind = {"string": "STRING", "integer": "INT", "number": "FLOAT", "boolean": "BOOLEAN"}[row.type]
    return Widget(row.name, kind, "" if row.required else row.default, row.description, low, high)


def _wider(one: FieldRow, other: FieldRow) -> FieldRow:
    if one.range is None or other.range is None:
        return one._replace(range=None)
    lows, highs = zip(one.range, other.range, strict=True)
    low = None if None in lows else min(lows)
    return one._replace(range=(low, None if None in highs else max(highs)))
