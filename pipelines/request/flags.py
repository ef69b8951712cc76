"""Offers the fields of a kind as command line flags, for example --num-frames 33."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from typing import Any

from .field_rows import LOCAL, FieldRow, local_row
from .file_rules import FILE_MEANINGS
from .kinds import field_table

__all__ = ["add_flags", "add_row_flags", "values_of_flags"]

_PREFIX = "field "  # keeps the values of fields apart from a command's own options
_LOCAL_PREFIX = "local field "
_METAVARS = {"string": "TEXT", "integer": "N", "number": "X", "boolean": "yes|no", "array<number>": "X,X,..."}
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def add_flags(
    parser: argparse.ArgumentParser, kind: str, text: str = "A flag overrides REQUEST.json."
) -> None:
    """Add a flag for each field of `kind`. `parse` reports wrong values, because it names the field."""
    add_row_flags(parser, field_table(kind), f"fields of {kind}", text)
    text = "Settings that only this machine has, the object `local` of a request. No provider is sent them."
    group = parser.add_argument_group("fields of local", text)
    for row in local_row().fields:
        plain = ("--",) if row.name in FILE_MEANINGS else ()  # as `media convert` calls them
        _add_flag(group, row, ("--local-", *plain), _LOCAL_PREFIX)


def add_row_flags(
    parser: argparse.ArgumentParser, rows: Iterable[FieldRow], title: str, text: str | None = None
) -> None:
    """Add a flag for each of these fields, under a title in the help."""
    group = parser.add_argument_group(title, text)
    for row in rows:
        _add_flag(group, row, ("--",), _PREFIX)


def values_of_flags(options: argparse.Namespace) -> dict[str, Any]:
    """Return {field: value} of the flags that the user gave. Those of `local` are one object."""
    local = _with_prefix(options, _LOCAL_PREFIX)
    return {**_with_prefix(options, _PREFIX), **({LOCAL: local} if local else {})}


def _with_prefix(options: argparse.Namespace, prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in vars(options).items() if name.startswith(prefix)
    }


def _add_flag(group: Any, row: FieldRow, starts: tuple[str, ...], prefix: str) -> None:
    group.add_argument(
        *(start + row.name.replace("_", "-") for start in starts),
        dest=prefix + row.name,
        action="extend" if row.is_list and row.media else "store",
        type=_reader(row),
        default=argparse.SUPPRESS,
        metavar=_metavar(row),
        help=_help(row).replace("%", "%%"),
    )


def _reader(row: FieldRow) -> Callable[[str], Any]:
    """Return a function from text to value. It keeps unreadable text, which `parse` then rejects."""

    def read(text: str) -> Any:
        if row.type in ("string", "enum"):
            return text
        if row.is_list and row.media and not text.lstrip().startswith("["):
            return [text]
        if row.type == "boolean":
            return _BOOLEANS.get(text.lower(), text)
        if row.type == "ImageSize|enum" and "x" in text:
            sides = text.split("x")
            if len(sides) == 2 and all(side.isdecimal() for side in sides):
                return {"width": int(sides[0]), "height": int(sides[1])}
        try:
            if row.type == "array<number>" and not text.lstrip().startswith("["):
                return [float(number) for number in text.split(",")]
            return json.loads(text)
        except ValueError:
            return text

    return read


def _metavar(row: FieldRow) -> str:
    if row.type == "ImageSize|enum":
        return "NAME|WxH"
    if row.enum is not None:
        return "|".join(map(str, row.enum))
    if row.media is not None:
        return "FILE|URL"  # of a list: one of them, and the flag may be repeated
    return _METAVARS.get(row.type, "JSON")


def _help(row: FieldRow) -> str:
    notes = ["" if row.range is None else str(row.range)]
    if row.limits:
        notes.append(row.limit_text(row.limits[-1]))
    if row.type == "ImageSize|enum" and row.enum is not None:
        notes.append("one of " + ", ".join(row.enum))
    if row.is_list and row.media:
        notes.append("may be given several times")
    if row.required:
        notes.append("required")
    elif row.default not in (None, "", ()):
        notes.append(f"default: {_shown(row.default)}")
    remark = "; ".join(note for note in notes if note)
    return f"{row.description} ({remark})" if remark else row.description


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    text = str(default)
    return text if len(text) <= 60 else text[:57] + "..."
