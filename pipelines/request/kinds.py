"""Makes the kinds of request from the contracts, and answers questions about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RequestError
from .base import WanRequest
from .contract_class import contract_class
from .contracts import ALIASES, KIND_ENTRIES, NOT_OFFERED, SENT_ENTRIES, TRAINING_ENTRIES
from .field_rows import FieldRow, closest, field_rows
from .forms import FORMS
from .shots_request import SHOTS, ShotsRequest
from .stated_schema import as_stated

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "LOCAL_KINDS",
    "SENDABLE",
    "TRAININGS",
    "class_of",
    "describe_kinds",
    "field_table",
    "json_schema",
    "kinds_of",
    "stated_by_alias",
    "training_table",
]

_ABOUT = ("kind", "task", "provider", "endpoint", "title")


def _request_class(entry: Mapping[str, Any]) -> type[WanRequest]:
    cls = contract_class(entry, FORMS[entry["form"]])
    for key in _ABOUT:
        setattr(cls, key, entry[key])
    cls.remote_only = entry.get("remote_only", False)
    return cls


KINDS: dict[str, type[WanRequest]] = {entry["kind"]: _request_class(entry) for entry in KIND_ENTRIES}

LOCAL_KINDS: tuple[str, ...] = tuple(kind for kind, cls in KINDS.items() if not cls.remote_only)

KIND_NAMES: tuple[str, ...] = (*KINDS, SHOTS, *ALIASES)  # all names that `class_of` and `parse` accept

# {contract: class} of everything that is sent to a provider: the kinds, and what they are converted to.
SENDABLE: dict[str, type[WanRequest]] = {
    cls.contract: cls for cls in (*KINDS.values(), *(_request_class(entry) for entry in SENT_ENTRIES))
}

TRAININGS: dict[str, type[WanRequest]] = {entry["kind"]: _request_class(entry) for entry in TRAINING_ENTRIES}


def class_of(kind: str) -> type[WanRequest]:
    """Return the request class of a kind or of its alias. Raises RequestError on `kind` for other names."""
    name = ALIASES[kind]["kind"] if kind in ALIASES else kind
    if name in KINDS:
        return KINDS[name]
    if name == SHOTS:
        return ShotsRequest
    if kind in TRAININGS:
        fix = "use `wan-duet train`, or the node Wan Duet Train LoRA"
        raise RequestError.of("kind", f"{kind} is a training, no request for a video", fix)
    if known := NOT_OFFERED.get(kind):
        found = f"{known['endpoint']} is known ({known['as_of']}), but not offered here"
        raise RequestError.of("kind", found, f"missing: {known['missing']}; choose another kind")
    near = closest(kind, KIND_NAMES)
    fix = f"did you mean {near}?" if near else "known kinds: " + ", ".join((*KINDS, SHOTS))
    raise RequestError.of("kind", f"no kind is called {kind[:60]!r}", fix)


def stated_by_alias(kind: str) -> Mapping[str, Any]:
    """Return the defaults that an alias adds to those of its kind. Empty for the name of a kind."""
    return ALIASES[kind]["defaults"] if kind in ALIASES else {}


def kinds_of(task: str) -> tuple[type[WanRequest], ...]:
    """Return the kinds of a task. The first has the fewest fields.

    Raises RequestError on `task` for an unknown task.
    """
    found = tuple(cls for cls in (*KINDS.values(), ShotsRequest) if cls.task == task)
    if not found:
        known = ", ".join(dict.fromkeys(cls.task for cls in KINDS.values()))
        raise RequestError.of("task", f"no task is called {task[:60]!r}", f"known tasks: {known}")
    return found


def describe_kinds() -> list[dict[str, str]]:
    """Return an entry for each kind, for `wan-duet kinds`."""
    keys = ("kind", "contract", "task", "provider", "endpoint", "title")
    return [{key: getattr(cls, key) for key in keys} for cls in (*KINDS.values(), ShotsRequest)]


def json_schema(kind: str, on: str = "local") -> dict[str, Any]:
    """Return the JSON Schema of a kind. `x-limits` has the limits of its provider, with date and source.

    on: "local", or the provider of the kind for the schema as that provider states it.

    Raises RequestError on `on` for another provider.
    """
    cls = class_of(kind)
    schema = cls.model_json_schema()
    if on == "local":
        return schema
    if on != cls.provider:
        raise RequestError.of("on", f"{on} states no schema of {kind}", f"give {cls.provider}, or local")
    return as_stated(schema)


def training_table(kind: str) -> list[FieldRow]:
    """Return the settings of a training of `TRAININGS`: its fields without the data."""
    return [row for row in field_rows(TRAININGS[kind]) if row.name != "training_data_url"]


def field_table(kind: str) -> list[FieldRow]:
    """Return the fields of a kind, in order."""
    return field_rows(class_of(kind))
