"""Reads the rows of a batch, one JSON object a line, and finds what is wrong with any of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Problem, RequestError, WanDuetError
from ..request.base import WanRequest
from ..request.parse import parse, read_json, shown_value
from ..request.seeds_of_count import one_per_seed

__all__ = ["BatchRow", "check_rows", "read_rows"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")  # a file name on every system
_FIX = "correct this row, or leave it out"


@dataclass(frozen=True)
class BatchRow:
    """One result that is wanted.

    line: of the file, from 1. name: of its files, without suffix; None if the journal shall number it.
    """

    line: int
    name: str | None
    request: WanRequest


def read_rows(file: Path, kind: str) -> tuple[list[BatchRow], list[Problem]]:
    """Read REQUESTS.jsonl. A line is a request, and may have `kind` and `id`; empty lines are left out.

    kind: of rows that do not say theirs. A row with `local.count` becomes as many rows, one per seed.

    Returns the rows, and the problems of all lines that are none, each with its line and field. Raises
    RequestError if the file cannot be read or has no rows.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise RequestError.of("REQUESTS.jsonl", f"{file}: {error.strerror}", "give a readable file") from None
    rows: list[BatchRow] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.extend(_rows_of(number, line, kind))
            except RequestError as error:
                problems.extend(_in_line(number, error))
    problems.extend(_same_names(rows))
    if not rows and not problems:
        raise RequestError.of("REQUESTS.jsonl", f"{file} has no rows", "write one JSON object a line")
    return rows, problems


def check_rows(rows: Sequence[BatchRow], check: Callable[[WanRequest], object]) -> list[Problem]:
    """Call `check` on every request. Returns the problems of all rows."""
    found = (problem for row in rows for problem in _problems(row, check))
    return list(dict.fromkeys(found))  # the rows of a count have the same


def _problems(row: BatchRow, check: Callable[[WanRequest], object]) -> list[Problem]:
    try:
        check(row.request)
    except (WanDuetError, OSError) as error:
        return _in_line(row.line, error)
    return []


def _rows_of(number: int, line: bytes, kind: str) -> Iterator[BatchRow]:
    values = read_json(line)
    name, kind = values.pop("id", None), values.pop("kind", kind)
    _require_name(name)
    if not isinstance(kind, str):
        raise RequestError.of("kind", f"got {shown_value(kind)}", "give the name of a kind")
    requests = one_per_seed(parse(kind, values))
    for index, request in enumerate(requests, 1):
        suffix = f"-{index}" if len(requests) > 1 else ""
        yield BatchRow(number, None if name is None else f"{name}{suffix}", request)


def _require_name(name: Any) -> None:
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        fix = "give up to 80 letters, digits, dots, dashes and underscores; the first is no dot or dash"
        raise RequestError.of("id", f"got {shown_value(name)}", fix)
    if name is not None and name.isdecimal():
        raise RequestError.of("id", f"got {name!r}", "add a letter: rows without an id are numbered")


def _same_names(rows: Iterable[BatchRow]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for row in rows:
        if row.name is None:
            continue
        earlier = seen.setdefault(row.name.lower(), row.line)  # one file on Windows and macOS
        if earlier != row.line:
            yield Problem(f"line {row.line}: id", f"{row.name} is that of line {earlier} too", "give another")


def _in_line(number: int, error: Exception) -> list[Problem]:
    if isinstance(error, RequestError):
        return [Problem(f"line {number}: {item.field}", item.found, item.fix) for item in error.problems]
    return [Problem(f"line {number}", str(error), _FIX)]
