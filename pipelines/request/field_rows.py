"""Describes the fields of a request class, for widgets, command line flags, documents and errors."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from .contracts import DESCRIPTIONS, described
from .limits import Limit, Range, dated_limits
from .local_settings import LocalSettings
from .step_values import MOVING_VALUE
from .strict_model import StrictModel

__all__ = [
    "LOCAL",
    "MEDIA",
    "MEDIA_LISTS",
    "FieldRow",
    "closest",
    "field_rows",
    "is_content_or_address",
    "is_media",
    "local_row",
    "media_named",
    "medium_of",
    "with_texts",
]

LOCAL = "local"  # the field of every request that no contract has

# {field that names a file: kind of medium}. A socket accepts the medium itself instead.
MEDIA: Mapping[str, str] = {
    "image_url": "image",
    "end_image_url": "image",
    "video_url": "video",
    "audio_url": "audio",
    "mask_video_url": "video",
    "mask_image_url": "image",
    "first_frame_url": "image",
    "last_frame_url": "image",
    "start_image_url": "image",
}

# {field with a list of files: kind of medium}. One of them is called as in errors: ref_image_urls[0].
MEDIA_LISTS: Mapping[str, str] = {
    "ref_image_urls": "image",
    "video_urls": "video",
    "reference_image_urls": "image",
    "reference_video_urls": "video",
    "reference_audio_urls": "audio",
}

USUAL_RATIOS = ("4:3", "3:4", "3:2", "2:3", "21:9")  # of photographs and of cinema

_NAMES: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_MOVING = "number|array<number>|string"  # of `step_values.StepValues`
_WANTED = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    _MOVING: MOVING_VALUE,
}
_LISTS = {
    "sigmas": "a list of numbers such as [1.0, 0.9, 0.5, 0.0], falling from at most 1 to 0",
    "guidance": "a list of scales of 0 or more, one for each step, such as [3.5, 3.5, 1.0, 1.0]",
}
_UNITS = {"string": " characters", "array": " items"}


class FieldRow(NamedTuple):
    """The description of one field. If it is not required, a `default` of None means that it is not sent.

    type:     "string", "integer", "number", "boolean", "enum", "object", "ImageSize|enum" or "array<NAME>".
    range:    what is valid on any machine; None if everything of this type is.
    limits:   every published range of the provider, oldest first. The last one validates there.
    offered:  values to choose from, where others are valid too.
    media:    "image", "video" or "audio" if the field names such a file, or a list of such files.
    fields:   the fields of the object that is the value, or of the objects in a list. Else empty.
    """

    name: str
    type: str
    default: Any
    range: Range | None
    enum: tuple[Any, ...] | None
    description: str
    required: bool
    limits: tuple[Limit, ...] = ()
    media: str | None = None
    fields: tuple[FieldRow, ...] = ()
    offered: tuple[Any, ...] = ()

    @property
    def is_list(self) -> bool:
        return self.type.startswith("array<")

    def as_stated(self) -> FieldRow:
        """Return the row as the provider states it: with its newest range or its choices."""
        fields = tuple(row.as_stated() for row in self.fields)
        if not self.limits:
            return self._replace(range=None, fields=fields)
        newest = self.limits[-1]
        if newest.choices is not None:
            kind = "enum" if self.type == "string" else self.type
            return self._replace(type=kind, enum=newest.choices, range=None, offered=(), fields=fields)
        return self._replace(range=Range(newest.min, newest.max), fields=fields)

    def wanted(self) -> str:
        """Describe a valid value, for error messages."""
        if self.is_list and self.media is not None:
            return f"a list of URLs, data URIs or files with {self.media}"
        if self.media is not None:
            return f"a URL, a data URI or a file with {self.media}, or connect {self.media} to the node"
        choices = "" if self.enum is None else "one of " + ", ".join(map(str, self.enum))
        if self.type == "ImageSize|enum":
            return f"{choices}, or {self.example()}"
        if choices:
            return choices
        if self.offered and self.type == "string":
            return f"{', '.join(map(str, self.offered))}, or another W:H such as 2.39:1"
        if self.type == "object":
            return self.example()
        if self.type == "array<number>":
            return _LISTS[self.name]
        if self.type.startswith("array"):
            return f"a list of objects such as {self.example()}"
        text = _WANTED[self.type]
        if self.range is None:
            return text
        return f"{text} {self.range}" if None not in self.range else f"{text}, {self.range}"

    def limit_text(self, limit: Limit) -> str:
        """Describe a range of the provider, for example "at fal from 1 to 10"."""
        unit = "" if limit.choices else _UNITS.get(self.type.split("<")[0], "")
        return f"at {limit.provider} {limit}{unit}"

    def example(self) -> str:
        """Return an object of this field, or of its list."""
        shown = ", ".join(
            f'"{row.name}": {_EXAMPLES[row.name]}' for row in self.fields if row.name in _EXAMPLES
        )
        return f"{{{shown}}}"


_EXAMPLES = {
    "prompt": '"a fox runs"',
    "path": '"FILE"',
    "scale": "1.0",
    "transformer": '"high"',
    "width": "512",
    "height": "512",
    "webhook": '{"url": "https://..."}',
    "url": '"https://..."',
    "return_task_status": '"TASK_STATUS_SUCCEED"',
    "nag_scale": "5.0",
    "high": "1.0",
    "expert": '"high"',
    "steps": "4",
    "guidance": "3.5",
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
                range=_own_range(info.metadata),
                enum=enum,
                description=described(model.contract, name),
                required=info.is_required(),
                limits=limits,
                media=MEDIA.get(name) or MEDIA_LISTS.get(name),
                fields=() if nested is None else tuple(field_rows(nested)),
                offered=_offered(name, limits[-1].choices) if limits and limits[-1].choices else (),
            )
        )
    return table


def medium_of(name: str) -> str:
    """Return the kind of medium of a field of `MEDIA`, or of an entry such as ref_image_urls[0]."""
    return MEDIA.get(name) or MEDIA_LISTS[name.partition("[")[0]]


def media_named(values: Mapping[str, Any]) -> dict[str, str]:
    """Return {field or entry such as ref_image_urls[0]: its text} for every file that `values` name."""
    named = {name: values[name] for name in MEDIA if values.get(name) is not None}
    for name in MEDIA_LISTS:
        named |= {f"{name}[{index}]": text for index, text in enumerate(values.get(name) or ())}
    return named


def is_media(field: str) -> bool:
    """Return whether a field, or each item of its list, names a medium."""
    return field in MEDIA or field in MEDIA_LISTS


def is_content_or_address(text: str) -> bool:
    """Return whether a medium is a data URI or a web address, and no file."""
    return text[:5].lower() == "data:" or "://" in text


def with_texts(document: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """Return the fields of a request with every text changed. change: of (name of the field, text)."""

    def changed(value: Any, field: str) -> Any:
        if isinstance(value, Mapping):
            return {name: changed(item, name) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [changed(item, field) for item in value]
        return change(field, value) if isinstance(value, str) else value

    return {name: changed(value, name) for name, value in document.items()}


def local_row() -> FieldRow:
    """Return the field `local`, which every request has. Its fields are the settings of this machine."""
    settings = tuple(field_rows(LocalSettings))
    return FieldRow(LOCAL, "object", None, None, None, DESCRIPTIONS[LOCAL], False, fields=settings)


def _offered(name: str, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the choices of the provider, and for a ratio the usual ones after them."""
    return tuple(dict.fromkeys((*choices, *USUAL_RATIOS))) if name == "aspect_ratio" else choices


def _own_range(metadata: Iterable[Any]) -> Range | None:
    """Return the range that a field states itself, with pydantic's `ge`, `gt` and `le`."""
    ends = ("ge", "gt", "le")
    found = {end: getattr(item, end) for item in metadata for end in ends if hasattr(item, end)}
    if not found:
        return None
    return Range(found.get("gt", found.get("ge")), found.get("le"), above="gt" in found)


def _type_of(annotation: Any) -> tuple[str, tuple[Any, ...] | None, type[StrictModel] | None]:
    """Return the name of the type, its choices, and the class of its object."""
    arms = [arm for arm in _arms(annotation) if arm is not types.NoneType]
    if len(arms) == 3:
        return _MOVING, None, None
    if len(arms) == 2:
        preset, nested = arms
        return f"{nested.contract}|enum", get_args(preset), nested
    (arm,) = arms
    if get_origin(arm) is Literal:
        choices = get_args(arm)
        return "enum" if isinstance(choices[0], str) else "integer", choices, None
    if get_origin(arm) is tuple:
        (item,) = _arms(get_args(arm)[0])
        if item in _NAMES:
            return f"array<{_NAMES[item]}>", None, None
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
