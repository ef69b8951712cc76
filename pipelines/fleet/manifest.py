"""The manifest of a batch, results.jsonl and results.csv: one line per row that has ended.

The journal is the truth. A line that a killed process left half, or did not write, comes from there.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files.on_disk import discard, write_whole
from ..video.output import sidecar
from .row_journal import JournalRow

__all__ = ["MANIFEST", "append_result", "rewrite_manifest", "write_rows"]

MANIFEST = "results.jsonl"
_TABLE = "results.csv"


def rewrite_manifest(folder: Path, rows: Iterable[JournalRow]) -> None:
    """Write the manifest of all rows that are done. Raises OSError."""
    done = [row for row in rows if row.state == "done"]
    for name in (MANIFEST, _TABLE):
        for left in folder.glob(name + 8 * "[a-z0-9_]"):  # by a process that was killed while it wrote this
            discard(left)
        write_rows(folder / name, done)


def append_result(folder: Path, row: JournalRow) -> None:
    """Append a row that is done or failed. Raises OSError."""
    for name, line in ((MANIFEST, _as_json(row)), (_TABLE, _as_csv(_values(row).values()))):
        with (folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(line)


def write_rows(file: Path, rows: Sequence[JournalRow]) -> None:
    """Write a line for each row, as CSV or JSON by the suffix of `file`. Raises OSError."""
    if file.suffix.lower() == ".csv":
        text = "".join([_as_csv(_COLUMNS), *(_as_csv(_values(row).values()) for row in rows)])
    else:
        text = "".join(map(_as_json, rows))
    write_whole(file, text)


_COLUMNS = (
    *("id", "line", "state", "file", "receipt", "seed", "attempt", "place", "seconds", "size_bytes"),
    *("sha256", "frames_sha256", "error", "cause", "batch"),
)


def _values(row: JournalRow) -> dict[str, Any]:
    """Return the columns of a row."""
    file = None if row.file is None else Path(row.file)
    values = (
        *(row.name, row.line, row.state, row.file, None if file is None else sidecar(file).name),
        *(int(row.seed), row.attempt, row.place, row.seconds, row.size_bytes),
        *(row.sha256, row.frames_sha256, row.error, row.cause, row.batch),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _as_json(row: JournalRow) -> str:
    return json.dumps(_values(row), ensure_ascii=False) + "\n"


def _as_csv(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow("" if value is None else value for value in values)
    return line.getvalue()
