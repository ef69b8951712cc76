"""Presets: sets of values for a request, by name. A value that the request states itself wins.

official:  what the official code uses for the model; the numbers stand in `families`.
fal:       the defaults that fal states for the kind.
draft:     a quick look: small, few steps, no frames in between.
lightning and the other names of request/distilled.json: for weights or LoRAs that are distilled for few
           steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..errors import RequestError
from ..request import WanRequest, field_table
from ..request.distilled import DISTILLED_WEIGHTS, Distilled
from ..request.field_rows import LOCAL
from ..request.implied import plan_name
from ..request.shots_request import SHOTS
from .families import Family, default_family

__all__ = ["PRESETS", "with_preset"]

_DRAFT = {
    "resolution": "480p",
    "image_size": "square",
    "num_inference_steps": 12,
    "interpolator_model": "none",
    "acceleration": "regular",
}

# What a setting of `local` decides: a preset does not decide it again.
_DECIDED_BY: Mapping[str, tuple[str, ...]] = {
    "sigmas": ("num_inference_steps", "shift"),
    **dict.fromkeys(("width", "height"), ("resolution", "aspect_ratio", "image_size")),
    "boundary": ("high_steps",),
    "high_steps": ("boundary",),
}


def with_preset(
    name: str, cls: type[WanRequest], family: Family | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fields of a request with those of a preset where it leaves them out.

    family: the loaded model. None, or one that has no official settings, uses the usual one of the task.

    Raises RequestError on `preset` when the kind has no such preset.
    """
    local = given.get(LOCAL, {})
    if not isinstance(local, Mapping):
        return dict(given)  # which `parse` refuses
    decided = {field for setting in local for field in _DECIDED_BY.get(setting, ())}
    values = {
        field: value for field, value in PRESETS[name](cls, family, given).items() if field not in decided
    }
    fields = {plan_name(row.name): row.name for row in field_table(cls.kind)}
    fitting = {fields[field]: value for field, value in values.items() if field in fields}
    if not fitting:
        raise RequestError.of("preset", f"{cls.kind} has no preset {name}", "leave it out")
    merged = {**fitting, **given}
    preset_local = {field: value for field, value in values.get(LOCAL, {}).items() if field not in decided}
    return {**merged, LOCAL: {**preset_local, **local}} if preset_local or local else merged


def _official(cls: type[WanRequest], family: Family | None, given: Mapping[str, Any]) -> dict[str, Any]:
    if cls.remote_only or cls.task == SHOTS:  # shots from an image have other numbers than those from text
        return {}
    made_for = family if family is not None and family.steps else default_family(cls.task)
    return dict(made_for.official_values(cls.task, given.get("resolution")))


def _fal(cls: type[WanRequest], _family: Family | None, _given: Mapping[str, Any]) -> dict[str, Any]:
    if cls.provider != "fal":
        return {}
    return {plan_name(row.name): row.default for row in field_table(cls.kind) if row.default is not None}


def _distilled(
    distilled: Distilled, cls: type[WanRequest], family: Family | None, _given: Mapping[str, Any]
) -> dict[str, Any]:
    names = {plan_name(row.name) for row in field_table(cls.kind)}
    others = ("speech-",) if distilled.small else ("small-", "speech-")
    if cls.remote_only or "num_inference_steps" not in names or cls.task.startswith(others):
        return {}
    if (family or default_family(cls.task)).experts == 2:
        return distilled.values
    one = {name: value for name, value in distilled.values.items() if name != "guidance_scale_2"}
    return {} if "boundary" in distilled.local else one


def _draft(cls: type[WanRequest], family: Family | None, given: Mapping[str, Any]) -> dict[str, Any]:
    rows = {row.name: row for row in field_table(cls.kind)}
    stated = (rows["resolution"].enum if "resolution" in rows else None) or ()
    tiers = [tier for tier in stated if tier != "auto"]
    values = {**_DRAFT, "resolution": tiers[0]} if tiers else dict(_DRAFT)
    for name in values.keys() & rows.keys():
        if (choices := rows[name].enum) and values[name] not in choices:
            del values[name]
    own_sizes = family is not None and family.own_sizes
    if tiers or own_sizes or given.keys() & {"resolution", "aspect_ratio"}:
        del values["image_size"]  # which would decide the size
    return values


PRESETS: Mapping[str, Callable[[type[WanRequest], Family | None, Mapping[str, Any]], dict[str, Any]]] = {
    "official": _official,
    "fal": _fal,
    "draft": _draft,
    **{known.preset: partial(_distilled, known) for known in DISTILLED_WEIGHTS},
}
