"""Makes requests from outside data (JSON, a dictionary). Errors name every wrong field."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from ..errors import Problem, RequestError
from .base import WanRequest
from .field_rows import LOCAL, FieldRow, closest, field_rows, local_row
from .forms import FalRequest
from .image_size import LONGEST_SIDE
from .kinds import KINDS, TRAININGS, class_of, kinds_of, stated_by_alias
from .lora_weight import LoRAWeight
from .seeds import SEED_MAX
from .strict_model import UNREADABLE

__all__ = [
    "no_constant",
    "no_duplicates",
    "parse",
    "parse_training",
    "read_json",
    "read_list",
    "read_loras",
    "request_for",
    "shown_value",
    "t2v_request",
    "with_local",
    "with_lora",
]

_Request = TypeVar("_Request", bound=WanRequest)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 2


def parse(kind: str, data: Mapping[str, Any] | str | bytes) -> WanRequest:
    """Make a request of `kind` from a mapping or JSON text.

    Raises RequestError with a problem for each wrong field, and for an unknown kind.
    """
    cls = class_of(kind)
    values = read_json(data) if isinstance(data, str | bytes) else data
    if not isinstance(values, Mapping):
        raise RequestError.of("request", f"got {shown_value(values)}", "give a JSON object of fields")
    return _validate(cls, {**stated_by_alias(kind), **values})


def parse_training(kind: str, values: Mapping[str, Any]) -> WanRequest:
    """Make the data of a training of `TRAININGS`. Raises RequestError with a problem for each wrong field."""
    return _validate(TRAININGS[kind], values)


def request_for(task: str, values: Mapping[str, Any]) -> WanRequest:
    """Make a request of a task. `values` may have the fields of all its kinds.

    Chooses the first kind that has all fields that are set. A field is set unless its value is None, off, an
    empty list or the default. Missing fields get the default of the first kind of the task, so that adding a
    LoRA changes no other value. Raises RequestError as `parse` does.
    """
    plain, *others = kinds_of(task)
    known = {name: row for cls in (*others, plain) for name, row in _table(cls).items()}
    wanted = {name for name, value in values.items() if name in known and _is_set(value, known[name])}
    chosen = next((cls for cls in (plain, *others) if wanted <= cls.model_fields.keys()), plain)
    defaults = {
        name: row.default
        for name, row in _table(plain).items()
        if name in chosen.model_fields and row.default is not None
    }
    given = {
        name: value
        for name, value in values.items()
        if name in chosen.model_fields or name not in known or name in wanted
    }
    return _validate(chosen, {**defaults, **given})


def with_lora(request: WanRequest, lora: Mapping[str, Any]) -> WanRequest:
    """Return the request with one more LoRA, as the kind of its task that has LoRAs."""
    values = request.document()
    return request_for(request.task, {**values, "loras": [*values.get("loras", ()), lora]})


def with_local(request: WanRequest, settings: Mapping[str, Any]) -> WanRequest:
    """Return the request with these settings of this machine. They replace settings that it has."""
    values = request.document()
    return _validate(type(request), {**values, LOCAL: {**values.get(LOCAL, {}), **settings}})


def read_loras(values: Any) -> tuple[LoRAWeight, ...]:
    """Make LoRAs outside of a request. Raises RequestError that names entry and field: loras[1].scale."""
    return _validate(_OnlyLoRAs, {"loras": values}).loras


def t2v_request(**values: Any) -> WanRequest:
    """Make a text-to-video request, of the LoRA kind if `loras` or `reverse_video` is set."""
    return request_for("text-to-video", values)


def read_json(text: str | bytes) -> dict[str, Any]:
    """Return the object of a JSON text. Raises RequestError for invalid JSON, duplicate keys and NaN."""
    values = _read(text)
    if not isinstance(values, dict):
        raise RequestError.of("request", f"got {shown_value(values)}", "give a JSON object of fields")
    return values


def read_list(field: str, text: str) -> list[Any]:
    """Return the list of a JSON text. Raises RequestError on `field`."""
    try:
        values = _read(text)
    except RequestError as error:
        (problem,) = error.problems
        raise RequestError.of(field, problem.found, "give a JSON list of objects") from None
    if not isinstance(values, list):
        raise RequestError.of(field, f"got {shown_value(values)}", "give a JSON list of objects")
    return values


def _read(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_duplicates)
    except RecursionError:
        raise RequestError.of(
            "request", "the JSON is nested too deeply", "give a flat object of fields"
        ) from None
    except ValueError as error:  # also for invalid UTF-8 and too long numbers
        fix = 'give a JSON object such as {"prompt": "a red ball"}'
        raise RequestError.of("request", f"not JSON: {str(error)[:120]}", fix) from None


def _is_set(value: Any, row: FieldRow) -> bool:
    if value is None or (isinstance(value, list | tuple) and not value):
        return False
    if value is False:
        return row.default is True
    return type(value) is not type(row.default) or bool(value != row.default)


def _table(cls: type[WanRequest]) -> dict[str, FieldRow]:
    return {row.name: row for row in field_rows(cls)}


class _OnlyLoRAs(FalRequest):
    contract = "WanLoRAT2VRequest"

    loras: Annotated[tuple[LoRAWeight, ...], Field(strict=False)]


def _validate(cls: type[_Request], values: Mapping[Any, Any]) -> _Request:
    named = {name if isinstance(name, str) else _SHORT.repr(name): value for name, value in values.items()}
    try:
        return cls.model_validate(named)
    except ValidationError as error:
        raise RequestError([_problem(item, cls) for item in error.errors(include_url=False)]) from None


def no_constant(name: str) -> Any:
    """Raise RequestError for NaN and Infinity: the `parse_constant` of a JSON decoder."""
    raise RequestError.of("request", f"{name} is not JSON", "give a finite number, or leave the field out")


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dictionary: the `object_pairs_hook` of a JSON decoder. Raises RequestError."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise RequestError.of("request", f"{_SHORT.repr(name)} is given twice", "keep one of the two")
        values[name] = value
    return values


def _problem(item: Any, cls: type[WanRequest]) -> Problem:
    location = _location(item["loc"])
    table, row = {**_table(cls), LOCAL: local_row()}, None
    for part in location:
        if isinstance(part, str):
            if row is not None:
                table = {nested.name: nested for nested in row.fields}
            row = table.get(part)
    nested = len(location) > 1
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:]
    if item["type"] == "extra_forbidden":
        return Problem(
            field[:80],
            "there is no such field",
            _unknown(str(location[-1]), table, KINDS if not nested else {}),
        )
    # For a list item that is not an object, `row` is that of the whole list.
    is_item = isinstance(location[-1], int)
    wanted = _item_wanted(row) if row is None or is_item else row.wanted()
    if item["type"] == "missing":
        return Problem(field, "missing", f"give {wanted}")
    found = f"got {shown_value(item['input'])}"
    if item["type"] == UNREADABLE:
        return Problem(field, found, item["msg"])
    if item["type"] == "blank":
        return Problem(field, found, "write what it should say")
    if item["type"] == "half_character":
        return Problem(field, f"{found} with half of a surrogate pair", "remove or complete that character")
    if item["type"] == "seed_range":
        return Problem(
            field, found, f"give 0 to {SEED_MAX} (what the noise generator takes), or leave it out"
        )
    if item["type"] == "side_range":
        return Problem(field, found, f"give 1 to {LONGEST_SIDE} pixels")
    near = None
    if row is not None and row.enum is not None and isinstance(item["input"], str):
        near = closest(item["input"].strip().lower(), map(str, row.enum))
    return Problem(field, found, f"give {wanted}" + (f"; did you mean {near}?" if near else ""))


def _item_wanted(row: FieldRow | None) -> str:
    if row is None or any(nested.name == "path" for nested in row.fields):
        return "an object with at least a path"
    return f"an object such as {row.example()}" if row.fields else "a number"


def _location(parts: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the location of a value, without the tags that pydantic adds for a union."""
    return tuple(
        part for at, part in enumerate(parts) if not (at and parts[at - 1] == "image_size" and part in _ARMS)
    )


_ARMS = ("preset", "size")  # the tags of image_size.SizeOrPreset


def _unknown(name: str, table: Mapping[str, FieldRow], kinds: Mapping[str, type[WanRequest]]) -> str:
    owners = [kind for kind, cls in kinds.items() if name in cls.model_fields]
    if owners:
        shown = ", ".join(owners[:3]) + (f" and {len(owners) - 3} more" if len(owners) > 3 else "")
        return f"kind {shown} has it" if len(owners) == 1 else f"kinds {shown} have it"
    near = closest(name, table)
    return f"did you mean {near}?" if near else "known fields: " + ", ".join(table)


def shown_value(value: Any) -> str:
    """Return a JSON value for an error message, shortened and with its type."""
    names = {str: "text", bool: "boolean", int: "whole number", float: "number", list: "list", dict: "object"}
    if value is None:
        return "null"
    try:
        shown = _SHORT.repr(value)
    except ValueError:  # Python 3.11 does not print integers of more than 4300 digits
        shown = "a number too long to write"
    return f"{shown} ({names.get(type(value), type(value).__name__)})"
