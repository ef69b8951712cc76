"""The kinds of request, each mirroring one contract of a provider, and what can be asked about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from ..errors import RequestError
from .base import StrictModel, WanRequest
from .contracts import ALIASES, KIND_ENTRIES, SENT_ENTRIES
from .field_rows import FieldRow, closest, field_rows
from .forms import FORMS
from .image_size import SizeOrPreset
from .lora_weight import LegacyLoRAWeight, LoRAWeight, NovitaLoRA
from .novita_extra import NovitaExtra

__all__ = [
    "KINDS",
    "KIND_NAMES",
    "SENDABLE",
    "class_of",
    "describe_kinds",
    "field_table",
    "json_schema",
    "kind_of",
    "kinds_of",
    "stated_by_alias",
]

_PLAIN: Mapping[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_OBJECTS: Mapping[str, type[StrictModel]] = {
    cls.contract: cls for cls in (LoRAWeight, LegacyLoRAWeight, NovitaLoRA, NovitaExtra)
}
_ABOUT = ("kind", "contract", "task", "provider", "endpoint", "title")


def _request_class(entry: Mapping[str, Any]) -> type[WanRequest]:
    """The class of a contract: frozen, strict data with its fields in their order."""
    fields: dict[str, Any] = {name: _field(field) for name, field in entry["fields"].items()}
    name = entry["contract"].removesuffix("_current")
    base, text = FORMS[entry["form"]], entry["description"]
    cls = create_model(name, __base__=base, __module__=__name__, __doc__=text, **fields)
    for key in _ABOUT:
        setattr(cls, key, entry[key])
    return cls


def _field(field: Mapping[str, Any]) -> tuple[Any, Any]:
    """(type, default) as pydantic takes them: without a stated default a field is None until it is set."""
    annotation = _annotation(field)
    if field.get("required"):
        return annotation, ...
    default = field.get("default")
    return (annotation, default) if default is not None else (annotation | None, None)


def _annotation(field: Mapping[str, Any]) -> Any:
    name: str = field["type"]
    if name == "ImageSize|enum":
        return SizeOrPreset
    if "enum" in field:
        literal: Any = Literal
        return literal[tuple(field["enum"])]
    if name.startswith("array<"):
        item = _OBJECTS[name.removeprefix("array<").removesuffix(">")]
        # The container alone is not strict: JSON has lists where frozen data has tuples.
        return Annotated[tuple[item, ...], Field(strict=False)]  # type: ignore[valid-type]
    return _PLAIN.get(name) or _OBJECTS[name]


KINDS: dict[str, type[WanRequest]] = {entry["kind"]: _request_class(entry) for entry in KIND_ENTRIES}

KIND_NAMES: tuple[str, ...] = (*KINDS, *ALIASES)  # what `class_of` and `parse` take

# What a provider may be sent: the kinds, and what other kinds are put into.
SENDABLE: dict[str, type[WanRequest]] = {
    cls.contract: cls for cls in (*KINDS.values(), *(_request_class(entry) for entry in SENT_ENTRIES))
}


def class_of(kind: str) -> type[WanRequest]:
    """The request class of a kind, or of a name that it had. RequestError on `kind` for any other."""
    name = ALIASES[kind]["kind"] if kind in ALIASES else kind
    if name in KINDS:
        return KINDS[name]
    near = closest(kind, KINDS)
    fix = f"did you mean {near}?" if near else "known kinds: " + ", ".join(KINDS)
    raise RequestError.of("kind", f"no kind is called {kind[:60]!r}", fix)


def stated_by_alias(kind: str) -> Mapping[str, Any]:
    """The defaults that the contract of an alias states and that of its kind does not; of a kind nothing."""
    return ALIASES[kind]["defaults"] if kind in ALIASES else {}


def kind_of(request: WanRequest) -> str:
    return request.kind


def kinds_of(task: str) -> tuple[type[WanRequest], ...]:
    """The kinds that share a node, the plain one first. RequestError on `task` when there is no such task."""
    found = tuple(cls for cls in KINDS.values() if cls.task == task)
    if not found:
        known = ", ".join(dict.fromkeys(cls.task for cls in KINDS.values()))
        raise RequestError.of("task", f"no task is called {task[:60]!r}", f"known tasks: {known}")
    return found


def describe_kinds() -> list[dict[str, str]]:
    """One entry per kind, for `wan-duet kinds`."""
    keys = ("kind", "contract", "task", "provider", "endpoint", "title")
    return [{key: getattr(cls, key) for key in keys} for cls in KINDS.values()]


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind, with the newest ranges; `x-limits` lists all with date and source."""
    return class_of(kind).model_json_schema()


def field_table(kind: str) -> list[FieldRow]:
    """The fields of a kind, in order."""
    return field_rows(class_of(kind))
