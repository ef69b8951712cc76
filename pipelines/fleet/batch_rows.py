"""Makes the requests of a batch, and finds what is wrong with any of its rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import Problem, RequestError, WanDuetError
from ..request.base import WanRequest
from ..request.parse import parse, shown_value
from ..request.seeds_of_count import one_per_seed
from .row_source import WrittenRow, written_rows
from .worker import Needs

__all__ = ["BatchRow", "Fill", "NeedsAt", "as_written", "check_rows", "read_rows"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")  # a file name on every system
_FIX = "correct this row, or leave it out"


@dataclass(frozen=True)
class BatchRow:
    """One result that is wanted.

    line: of the file, from 1. name: of its files, without suffix; None if the journal shall number it.
    file: the name of its own file, of a row that has one.
    batch: rows of several batches take turns.
    """

    line: int
    name: str | None
    request: WanRequest
    file: str = ""
    batch: str = ""

    @property
    def where(self) -> str:
        """Names the row in messages."""
        return self.file or f"line {self.line}"


Fill = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]  # (kind, fields) -> all fields


def as_written(_kind: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add nothing to the fields of a row."""
    return fields


def read_rows(source: Path, kind: str, fill: Fill = as_written) -> tuple[list[BatchRow], list[Problem]]:
    """Make the requests of all rows of `source`: see `written_rows`. A row may have `kind`, `id` and `batch`.

    kind: of rows that do not say theirs. fill: adds what the user said for all rows.

    A row with `local.count` becomes as many rows, one per seed. Returns the rows, and the problems of those
    that are none, each with its place and field. Raises RequestError as `written_rows` does.
    """
    made = [_rows_of(written, kind, fill) for written in written_rows(source)]
    rows = [row for found, _ in made for row in found]
    problems = [problem for _, found in made for problem in found]
    return rows, [*problems, *_same_names(rows)]


NeedsAt = Mapping[str, Needs]  # {place that can run the row: what it takes there}


def check_rows(
    rows: Sequence[BatchRow], checks: Mapping[str, Callable[[WanRequest], Needs]]
) -> tuple[list[NeedsAt], list[Problem]]:
    """Check every request at every place. checks: {place: its `Worker.check`}.

    Returns where each row can run, and the problems of all rows that can run nowhere.
    """
    needs: list[NeedsAt] = []
    problems: list[Problem] = []
    for row in rows:
        found = {place: _checked(row, check) for place, check in checks.items()}
        needs.append({place: answer for place, answer in found.items() if isinstance(answer, Needs)})
        if not needs[-1]:
            problems += [
                problem if len(checks) == 1 else replace(problem, found=f"{place}: {problem.found}")
                for place, answer in found.items()
                if isinstance(answer, list)
                for problem in answer
            ]
    return needs, list(dict.fromkeys(problems))  # the rows of a count have the same


def _checked(row: BatchRow, check: Callable[[WanRequest], Needs]) -> Needs | list[Problem]:
    try:
        return check(row.request)
    except (WanDuetError, OSError) as error:
        return _at(row.where, error)


def _rows_of(written: WrittenRow, kind: str, fill: Fill) -> tuple[list[BatchRow], list[Problem]]:
    try:
        return list(_requested(written, kind, fill)), []
    except RequestError as error:
        return [], _at(written.where, error)


def _requested(written: WrittenRow, kind: str, fill: Fill) -> Iterator[BatchRow]:
    fields = dict(written.read())
    name, kind = fields.pop("id", written.name), fields.pop("kind", kind)
    batch = fields.pop("batch", "")
    _require_name(name)
    if not isinstance(batch, str):
        raise RequestError.of("batch", f"got {shown_value(batch)}", "give the name of a batch")
    if not isinstance(kind, str):
        raise RequestError.of("kind", f"got {shown_value(kind)}", "give the name of a kind")
    requests = one_per_seed(parse(kind, fill(kind, fields)))
    for index, request in enumerate(requests, 1):
        suffix = f"-{index}" if len(requests) > 1 else ""
        whole = None if name is None else f"{name}{suffix}"
        yield BatchRow(written.line, whole, request, written.file, batch)


def _require_name(name: Any) -> None:
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        fix = "give up to 80 letters, digits, dots, dashes and underscores; the first is no dot or dash"
        raise RequestError.of("id", f"got {shown_value(name)}", fix)
    if name is not None and name.isdecimal():
        raise RequestError.of("id", f"got {name!r}", "add a letter: rows without an id are numbered")


def _same_names(rows: Iterable[BatchRow]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for row in rows:
        if row.name is None:
            continue
        earlier = seen.setdefault(row.name.lower(), row.where)  # one file on Windows and macOS
        if earlier != row.where:
            yield Problem(f"{row.where}: id", f"{row.name} is that of {earlier} too", "give another")


def _at(where: str, error: Exception) -> list[Problem]:
    if isinstance(error, RequestError):
        return [Problem(f"{where}: {item.field}", item.found, item.fix) for item in error.problems]
    return [Problem(where, str(error), _FIX)]
