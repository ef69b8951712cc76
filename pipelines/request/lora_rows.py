"""Reads the rows of a LoRA table: the JSON text in the input `rows` of a LoRA node.

    [{"file": "style/a.safetensors", "high": 1.0, "low": 0.5, "on": true}, ...]

`file` is a name as in the input `file`. The other keys are optional: 1, 1 and true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError
from .field_rows import closest
from .lora_weight import place_of
from .parse import no_constant, no_duplicates, shown_value

__all__ = ["NO_FILE", "LoraRow", "loras_of", "read_rows"]

NO_FILE = "none"
LONGEST_TEXT = 65_536  # characters; about 700 rows with long names
LONGEST_NAME = 1024
STRONGEST = 100.0  # as in the widgets for one LoRA


@dataclass(frozen=True)
class LoraRow:
    """One row of the table.

    number:    position in the JSON, from 0.
    file:      a name below models/loras, or toy/NAME.
    high, low: strength on that expert, -100 to 100. 0 does not change the expert.
    """

    number: int
    file: str
    high: float
    low: float
    on: bool


_DEFAULTS = {"high": 1.0, "low": 1.0, "on": True}
_KEYS = ("file", *_DEFAULTS)


def read_rows(text: str) -> tuple[LoraRow, ...]:
    """Return all rows of a table, also those that are off. Empty for an empty text.

    Raises RequestError on `rows[NUMBER]` or its key, for: other JSON, an unknown key, a key or file that
    occurs twice, a file outside models/loras, a strength outside -100 to 100, and a text of more than 65,536
    characters.
    """
    rows: list[LoraRow] = []
    first: dict[str, int] = {}
    for number, values in _values(text):
        row = _row(number, values)
        if row.file in first and row.file != NO_FILE:
            raise RequestError.of(
                f"rows[{number}].file", f"{row.file} is in rows[{first[row.file]}] too", "keep one of the two"
            )
        first.setdefault(row.file, number)
        rows.append(row)
    return tuple(rows)


def loras_of(rows: tuple[LoraRow, ...]) -> list[dict[str, Any]]:
    """Convert the rows that are on to entries of the request field `loras`.

    A row becomes one entry for both experts if its strengths are equal, else one for each expert with a
    strength.
    """
    entries: list[dict[str, Any]] = []
    for row in rows:
        if not row.on or row.file == NO_FILE:
            continue
        if row.high == row.low:
            entries.append({"path": row.file, "scale": row.high, "transformer": "both"})
            continue
        strengths = {"high": row.high, "low": row.low}
        entries += [
            {"path": row.file, "scale": strength, "transformer": expert}
            for expert, strength in strengths.items()
            if strength
        ]
    return entries


def _values(text: str) -> Iterator[tuple[int, Any]]:
    """Read the JSON list value by value, so that an error can name its row."""
    decoder = json.JSONDecoder(object_pairs_hook=no_duplicates, parse_constant=no_constant)
    at, number = _after_space(text, 0), 0
    if at == len(text):
        return
    if text[at] != "[":
        raise RequestError.of("rows", f"got {shown_value(text)}", "give a JSON list of objects")
    at = _after_space(text, at + 1)
    while text[at : at + 1] != "]":
        where = f"rows[{number}]"
        try:
            value, at = decoder.raw_decode(text, at)
        except RequestError as error:
            (problem,) = error.problems
            raise RequestError.of(where, problem.found, problem.fix) from None
        except (ValueError, RecursionError) as error:
            raise RequestError.of(where, f"not JSON: {str(error)[:120]}", "give an object") from None
        if at > LONGEST_TEXT:
            found = f"ends at character {at} of the text"
            raise RequestError.of(where, found, f"give at most {LONGEST_TEXT} characters in all")
        yield number, value
        at, number = _after_space(text, at), number + 1
        if text[at : at + 1] == ",":
            at = _after_space(text, at + 1)
            if text[at : at + 1] == "]":
                raise RequestError.of(f"rows[{number}]", "missing after a comma", "remove the comma")
        elif text[at : at + 1] != "]":
            raise RequestError.of(where, "no , or ] behind it", "separate rows by commas and end with ]")
    if _after_space(text, at + 1) != len(text):
        raise RequestError.of("rows", "text after the list", "give one JSON list")
    if len(text) > LONGEST_TEXT:
        raise RequestError.of("rows", f"{len(text)} characters", f"give at most {LONGEST_TEXT}")


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":  # the white space of JSON
        at += 1
    return at


def _row(number: int, values: Any) -> LoraRow:
    where = f"rows[{number}]"
    if not isinstance(values, dict):
        raise RequestError.of(where, f"got {shown_value(values)}", "give an object with a file")
    for name in values:
        if name not in _KEYS:
            near = closest(name, _KEYS)
            fix = f"did you mean {near}?" if near else f"known keys: {', '.join(_KEYS)}"
            raise RequestError.of(f"{where}.{name[:40]}", "there is no such key", fix)
    if "file" not in values:
        raise RequestError.of(f"{where}.file", "missing", "give the name of a LoRA")
    given = {**_DEFAULTS, **values}
    if not isinstance(given["on"], bool):
        raise RequestError.of(f"{where}.on", f"got {shown_value(given['on'])}", "give true or false")
    return LoraRow(
        number,
        _file(f"{where}.file", given["file"]),
        _strength(f"{where}.high", given["high"]),
        _strength(f"{where}.low", given["low"]),
        given["on"],
    )


def _file(where: str, name: Any) -> str:
    """Return the name with / as separator. Raises RequestError unless it can be below models/loras."""
    fix = "give the name of a file below models/loras, as the list of files shows it"
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise RequestError.of(where, f"got {shown_value(name)}", fix)
    portable = name.replace("\\", "/")
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in name):
        raise RequestError.of(where, f"{shown_value(name)} has a character that no file name has", fix)
    if portable[1:2] == ":" or {"", ".", ".."} & set(portable.split("/")):
        raise RequestError.of(where, f"{shown_value(name)} leads out of models/loras", fix)
    if place_of(portable) in ("address", "repository"):
        raise RequestError.of(where, f"{shown_value(name)} is not a file", f"{fix}; path takes addresses")
    return portable


def _strength(where: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= STRONGEST or not math.isfinite(value):
        raise RequestError.of(
            where, f"got {shown_value(value)}", f"give a number from {-STRONGEST:g} to {STRONGEST:g}"
        )
    return float(value)
