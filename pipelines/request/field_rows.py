"""Describes the fields of a request class, for widgets, command line flags, documents and errors."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from .contracts import DESCRIPTIONS
from .limits import Limit, dated_limits
from .local_settings import LocalSettings
from .strict_model import StrictModel

__all__ = ["LOCAL", "MEDIA", "FieldRow", "closest", "field_rows", "local_row"]

LOCAL = "local"  # the field of every request that no contract has

# {field that names a file: kind of medium}. A socket accepts the medium itself instead.
MEDIA: Mapping[str, str] = {
    "image_url": "image",
    "end_image_url": "image",
    "video_url": "video",
    "audio_url": "audio",
}

_NAMES: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_WANTED = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_UNITS = {"string": " characters", "array": " items"}


class FieldRow(NamedTuple):
    """The description of one field. If it is not required, a `default` of None means that it is not sent.

    type:     "string", "integer", "number", "boolean", "enum", "object", "ImageSize|enum" or "array<NAME>".
    range:    the newest (min, max), both included. None at an open end, and None without a range. For text it
              counts characters, for a list items.
    limits:   every published range, oldest first. The last one validates.
    media:    "image", "video" or "audio" if the field names such a file.
    fields:   the fields of the object that is the value, or of the objects in a list. Else empty.
    """

    name: str
    type: str
    default: Any
    range: tuple[float | None, float | None] | None
    enum: tuple[Any, ...] | None
    description: str
    required: bool
    limits: tuple[Limit, ...] = ()
    media: str | None = None
    fields: tuple[FieldRow, ...] = ()

    def wanted(self) -> str:
        """Describe a valid value, for error messages."""
        if self.media is not None:
            return f"a URL, a data URI or a file with {self.media}, or connect {self.media} to the node"
        choices = "" if self.enum is None else "one of " + ", ".join(map(str, self.enum))
        if self.type == "ImageSize|enum":
            return f"{choices}, or {self._example()}"
        if choices:
            return choices
        if self.type == "object":
            return self._example()
        if self.type.startswith("array"):
            text = f"a list of objects such as {self._example()}"
            return text if self.range is None else f"{text}, {self.range_text()}"
        text = _WANTED[self.type]
        if self.range is None:
            return text
        return f"{text} {self.range_text()}" if None not in self.range else f"{text}, {self.range_text()}"

    @property
    def multiple_of(self) -> int | None:
        """The number whose multiples are valid. None if every number in the range is."""
        return self.limits[-1].multiple_of if self.limits else None

    def range_text(self, limit: Limit | None = None) -> str:
        """Describe a range, by default the newest. Empty without one."""
        if self.range is None:
            return ""
        unit = _UNITS.get(self.type.split("<")[0], "")
        newest = self.limits[-1] if self.limits else Limit(*self.range, as_of="", source="")
        return f"{limit or newest}{unit}"

    def _example(self) -> str:
        shown = ", ".join(
            f'"{row.name}": {_EXAMPLES[row.name]}' for row in self.fields if row.name in _EXAMPLES
        )
        return f"{{{shown}}}"


_EXAMPLES = {
    "path": '"FILE"',
    "scale": "1.0",
    "transformer": '"high"',
    "width": "512",
    "height": "512",
    "webhook": '{"url": "https://..."}',
    "url": '"https://..."',
    "return_task_status": '"TASK_STATUS_SUCCEED"',
    "nag_scale": "5.0",
}


def field_rows(model: type[StrictModel]) -> list[FieldRow]:
    """Return the fields of a class, in order, without `local`."""
    table = []
    for name, info in model.model_fields.items():
        if name == LOCAL:
            continue
        kind, enum, nested = _type_of(info.annotation)
        limits = dated_limits(model.contract, name)
        table.append(
            FieldRow(
                name=name,
                type=kind,
                default=None if info.is_required() else info.default,
                range=(limits[-1].min, limits[-1].max) if limits else _own_range(info.metadata),
                enum=enum,
                description=DESCRIPTIONS[name],
                required=info.is_required(),
                limits=limits,
                media=MEDIA.get(name),
                fields=() if nested is None else tuple(field_rows(nested)),
            )
        )
    return table


def local_row() -> FieldRow:
    """Return the field `local`, which every request has. Its fields are the settings of this machine."""
    settings = tuple(field_rows(LocalSettings))
    return FieldRow(LOCAL, "object", None, None, None, DESCRIPTIONS[LOCAL], False, fields=settings)


def _own_range(metadata: Iterable[Any]) -> tuple[float | None, float | None] | None:
    """Return the range that a field states itself, with pydantic's `ge` and `le`."""
    found = {end: getattr(item, end) for item in metadata for end in ("ge", "le") if hasattr(item, end)}
    return (found.get("ge"), found.get("le")) if found else None


def _type_of(annotation: Any) -> tuple[str, tuple[Any, ...] | None, type[StrictModel] | None]:
    """Return the name of the type, its choices, and the class of its object."""
    arms = [arm for arm in _arms(annotation) if arm is not types.NoneType]
    if len(arms) == 2:
        preset, nested = arms
        return f"{nested.contract}|enum", get_args(preset), nested
    (arm,) = arms
    if get_origin(arm) is Literal:
        choices = get_args(arm)
        return "enum" if isinstance(choices[0], str) else "integer", choices, None
    if get_origin(arm) is tuple:
        item = get_args(arm)[0]
        return f"array<{item.contract.split('_')[0]}>", None, item
    if arm in _NAMES:
        return _NAMES[arm], None, None
    return "object", None, arm


def _arms(annotation: Any) -> list[Any]:
    """Return the members of a union at any depth, without annotations."""
    if get_origin(annotation) is Annotated:
        return _arms(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [arm for member in get_args(annotation) for arm in _arms(member)]
    return [annotation]


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the most similar of `words`, or None if none is similar."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1)), None)
