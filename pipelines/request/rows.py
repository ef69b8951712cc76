"""The fields of a class as a table: the source of widgets, command line flags, documents and errors."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from .descriptions import DESCRIPTIONS
from .limits import newest_limit

__all__ = ["FieldRow", "closest", "rows"]

_NAMES: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_WANTED = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}


class FieldRow(NamedTuple):
    """One field. `default` None of a field that is not required means: unset, the key is left out.

    type:  "string", "integer", "number", "boolean", "enum" or "array<NAME>", as in requests.json.
    range: the newest (min, max), both included, None where an end is open; None where no range is stated.
    """

    name: str
    type: str
    default: Any
    range: tuple[float | None, float | None] | None
    enum: tuple[str, ...] | None
    description: str
    required: bool

    def wanted(self) -> str:
        """What would be a right value, for an error text."""
        if self.enum is not None:
            return "one of " + ", ".join(self.enum)
        if self.type.startswith("array"):
            return 'a list of objects such as {"path": "FILE", "scale": 1.0, "transformer": "high"}'
        text = _WANTED[self.type]
        if self.range is None:
            return text
        low, high = self.range
        if low is None or high is None:
            return f"{text}, {low} or more" if high is None else f"{text}, {high} or less"
        return f"{text} from {low} to {high}"


def rows(model: type[BaseModel]) -> list[FieldRow]:
    """The fields in the order of the class."""
    table = []
    for name, info in model.model_fields.items():
        kind, enum = _type_of(info.annotation)
        limit = newest_limit(getattr(model, "contract", ""), name)
        table.append(
            FieldRow(
                name=name,
                type=kind,
                default=None if info.is_required() else info.default,
                range=None if limit is None else (limit.min, limit.max),
                enum=enum,
                description=DESCRIPTIONS[name],
                required=info.is_required(),
            )
        )
    return table


def _type_of(annotation: Any) -> tuple[str, tuple[str, ...] | None]:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (arm for arm in get_args(annotation) if arm is not types.NoneType)
    if get_origin(annotation) is Literal:
        return "enum", get_args(annotation)
    if get_origin(annotation) is tuple:
        return f"array<{get_args(annotation)[0].__name__}>", None
    return _NAMES[annotation], None


def closest(word: str, words: Iterable[str]) -> str | None:
    """The most similar of `words`, or None when nothing is near."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1)), None)
