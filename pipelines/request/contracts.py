"""Reads contracts.json, the source of kinds, fields, defaults, limits and descriptions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "ALIASES",
    "DESCRIPTIONS",
    "KIND_ENTRIES",
    "NOT_OFFERED",
    "OBJECT_ENTRIES",
    "SENT_ENTRIES",
    "TRAINING_ENTRIES",
    "described",
    "is_open",
    "physical_range",
    "stated_limits",
]

_DATA: dict[str, Any] = json.loads(Path(__file__).with_name("contracts.json").read_text(encoding="utf-8"))

KIND_ENTRIES: tuple[Mapping[str, Any], ...] = tuple(_DATA["kinds"])
"""The kinds, in the order of lists. The first kind of a task has the fewest fields."""

SENT_ENTRIES: tuple[Mapping[str, Any], ...] = tuple(_DATA["sent"])
"""Contracts that a request of another kind is converted to. They are no kinds of their own."""

TRAINING_ENTRIES: tuple[Mapping[str, Any], ...] = tuple(_DATA["trainings"])
"""The trainings of LoRAs. They are no requests: no node or command for those takes one."""

OBJECT_ENTRIES: tuple[Mapping[str, Any], ...] = tuple(_DATA["objects"])
"""Objects in the fields of others. An object comes after those in its own fields."""

ALIASES: Mapping[str, Mapping[str, Any]] = _DATA["aliases"]
"""{name: its kind, the contract that it mirrors, and the defaults that this contract adds}"""

NOT_OFFERED: Mapping[str, Mapping[str, Any]] = {entry["kind"]: entry for entry in _DATA["not_offered"]}
"""{kind: provider, endpoint, what is missing here, day and source} of what only the providers have."""

DESCRIPTIONS: Mapping[str, str] = _DATA["descriptions"]
"""{field: what it means}, for tooltips, JSON Schema, command line help and documents.

A field that means something else in one object is Object.field there.
"""


def described(contract: str, field: str) -> str:
    """Return what a field means in the objects of a contract."""
    return DESCRIPTIONS.get(f"{contract}.{field}") or DESCRIPTIONS[field]


def physical_range(name: str, field: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the bounds that a value of this field has anywhere, in the words of JSON Schema; or none."""
    bounds: Mapping[str, Any] = field.get("physical") or _DATA["physical"].get(name, {})
    return bounds


def is_open(name: str, field: Mapping[str, Any]) -> bool:
    """Return whether the choices of this field are those of the provider alone."""
    return "enum" in field and bool(physical_range(name, field))


def stated_limits() -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Return {contract: {field: its published ranges, oldest first}}, each with its provider."""
    fields: Iterable[tuple[Mapping[str, Any], str, Mapping[str, Any]]] = (
        (entry, name, field)
        for entry in (*KIND_ENTRIES, *SENT_ENTRIES, *TRAINING_ENTRIES)
        for name, field in entry["fields"].items()
    )
    limits: dict[str, dict[str, list[Mapping[str, Any]]]] = {
        contract: dict(ranges) for contract, ranges in _DATA["limits"].items()
    }
    for entry, name, field in fields:
        stated = [field] if is_open(name, field) else field.get("limits", ())
        if stated:
            limits.setdefault(entry["contract"], {})[name] = [
                {**limit, "provider": entry["provider"]} for limit in stated
            ]
    return limits
