"""Data from outside (JSON, a dictionary) -> a request, or an error that names every bad field."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from ..errors import Problem, RequestError
from .base import WanRequest
from .fields import SEED_MAX
from .kinds import KINDS, WanLoRAT2VRequest, WanT2VRequest, class_of
from .lora import LoRAWeight
from .rows import FieldRow, closest, rows

__all__ = ["parse", "t2v_request"]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 2

_Request = TypeVar("_Request", bound=WanRequest)


def parse(kind: str, data: Mapping[str, Any] | str | bytes) -> WanRequest:
    """A request of `kind` from a mapping or JSON text. RequestError has a problem for every bad field."""
    cls = class_of(kind)
    values = _from_json(data) if isinstance(data, str | bytes) else data
    if not isinstance(values, Mapping):
        raise RequestError.of("request", f"got {_found(values)}", "give a JSON object of fields")
    return _validate(cls, values)


def t2v_request(**values: Any) -> WanT2VRequest:
    """A text-to-video request: the plain kind, or the LoRA kind when `loras` or `reverse_video` is set.

    No LoRAs and not reversed is what the plain kind does, so an empty list and False select it too.
    """
    loras, reverse = values.get("loras"), values.get("reverse_video")
    if loras not in (None, [], ()) or not (reverse is None or reverse is False):
        return _validate(WanLoRAT2VRequest, values)
    plain = {name: value for name, value in values.items() if name not in ("loras", "reverse_video")}
    return _validate(WanT2VRequest, plain)


def _validate(cls: type[_Request], values: Mapping[Any, Any]) -> _Request:
    named = {name if isinstance(name, str) else _SHORT.repr(name): value for name, value in values.items()}
    try:
        return cls.model_validate(named)
    except ValidationError as error:
        table = {row.name: row for row in rows(cls)}
        raise RequestError([_problem(item, table) for item in error.errors(include_url=False)]) from None


def _from_json(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise RequestError.of(
            "request", "the JSON is nested too deeply", "give a flat object of fields"
        ) from None
    except ValueError as error:  # also bad UTF-8 and numbers too long to read
        fix = 'give a JSON object such as {"prompt": "a red ball"}'
        raise RequestError.of("request", f"not JSON: {str(error)[:120]}", fix) from None


def _no_constant(name: str) -> Any:
    raise RequestError.of("request", f"{name} is not JSON", "give a finite number, or leave the field out")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise RequestError.of("request", f"{_SHORT.repr(name)} is given twice", "keep one of the two")
        values[name] = value
    return values


def _problem(item: Any, table: Mapping[str, FieldRow]) -> Problem:
    location = item["loc"]
    nested = len(location) > 1
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:]
    leaf = location[-1]
    if nested:
        table = {row.name: row for row in rows(LoRAWeight)}
    if item["type"] == "extra_forbidden":
        return Problem(
            field[:80], "there is no such field", _unknown(str(leaf), table, KINDS if not nested else {})
        )
    row = table.get(leaf) if isinstance(leaf, str) else None
    # A list item that is no object has an index for a leaf: the list's own row says what belongs there.
    wanted = "an object with at least a path" if row is None else row.wanted()
    if item["type"] == "missing":
        return Problem(field, "missing", f"give {wanted}")
    found = f"got {_found(item['input'])}"
    if item["type"] == "blank":
        return Problem(field, found, "write what it should say")
    if item["type"] == "half_character":
        return Problem(field, f"{found} with half of a surrogate pair", "remove or complete that character")
    if item["type"] == "seed_range":
        return Problem(
            field, found, f"give 0 to {SEED_MAX} (what the noise generator takes), or leave it out"
        )
    near = None
    if row is not None and row.enum is not None and isinstance(item["input"], str):
        near = closest(item["input"].strip().lower(), row.enum)
    return Problem(field, found, f"give {wanted}" + (f"; did you mean {near}?" if near else ""))


def _unknown(name: str, table: Mapping[str, FieldRow], kinds: Mapping[str, type[WanRequest]]) -> str:
    owners = [kind for kind, cls in kinds.items() if name in cls.model_fields]
    if owners:
        return f"kind {' and '.join(owners)} has it"
    near = closest(name, table)
    return f"did you mean {near}?" if near else "known fields: " + ", ".join(table)


def _found(value: Any) -> str:
    names = {str: "text", bool: "boolean", int: "whole number", float: "number", list: "list", dict: "object"}
    if value is None:
        return "null"
    try:
        shown = _SHORT.repr(value)
    except ValueError:  # Python 3.11 writes no integer of more than 4300 digits
        shown = "a number too long to write"
    return f"{shown} ({names.get(type(value), type(value).__name__)})"
