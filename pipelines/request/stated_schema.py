"""Turns the JSON Schema of a kind into the one that its provider states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .field_rows import LOCAL

__all__ = ["as_stated"]

_ENDS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
}
_PHYSICAL = ("minimum", "exclusiveMinimum", "maximum", "pattern")


def as_stated(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with the newest of the dated limits in place of the ranges that hold anywhere.

    The settings of this machine are not in it.
    """
    stated = {**schema, "properties": _fields(schema["properties"])}
    objects = {name: entry for name, entry in schema.get("$defs", {}).items() if name != "LocalSettings"}
    stated.pop("$defs", None)
    if objects:
        stated["$defs"] = {
            name: {**entry, "properties": _fields(entry["properties"])} for name, entry in objects.items()
        }
    return stated


def _fields(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _field(entry) for name, entry in properties.items() if name != LOCAL}


def _field(entry: Mapping[str, Any]) -> dict[str, Any]:
    limits = next(iter(entry.get("x-limits", {}).values()), None)
    arms = [_bounded(arm, limits[-1] if limits else {}) for arm in entry.get("anyOf", [entry])]
    return {**entry, "anyOf": arms} if "anyOf" in entry else arms[0]


def _bounded(arm: Mapping[str, Any], limit: Mapping[str, Any]) -> dict[str, Any]:
    """Return one form of a value with this limit instead of its own range."""
    bounded = {key: value for key, value in arm.items() if key not in _PHYSICAL}
    if "choices" in limit and arm.get("type") != "null":
        return {**bounded, "enum": list(limit["choices"])}
    if arm.get("type") not in _ENDS:
        return bounded
    names = dict(zip(("min", "max"), _ENDS[arm["type"]], strict=True)) | {"multiple_of": "multipleOf"}
    return bounded | {name: limit[key] for key, name in names.items() if key in limit}
