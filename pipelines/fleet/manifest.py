"""The manifest of a batch, results.jsonl: one line per row that has ended, for people and other programs.

The journal is the truth. A line that a killed process left half, or did not write, comes from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ..files.on_disk import write_whole
from ..video.output import sidecar
from .row_journal import JournalRow

__all__ = ["MANIFEST", "append_result", "rewrite_manifest"]

MANIFEST = "results.jsonl"


def rewrite_manifest(folder: Path, rows: Iterable[JournalRow]) -> None:
    """Write the manifest of all rows that are done. Raises OSError."""
    write_whole(folder / MANIFEST, "".join(_line(row) for row in rows if row.state == "done"))


def append_result(folder: Path, row: JournalRow) -> None:
    """Append a row that is done or failed. Raises OSError."""
    with (folder / MANIFEST).open("a", encoding="utf-8") as file:
        file.write(_line(row))


def _line(row: JournalRow) -> str:
    file = None if row.file is None else Path(row.file)
    values = {
        "id": row.name,
        "line": row.line,
        "state": row.state,
        "file": row.file,
        "receipt": None if file is None else sidecar(file).name,
        "seed": int(row.seed),
        "attempt": row.attempt,
        "place": row.place,
        "seconds": row.seconds,
        "size_bytes": row.size_bytes,
        "sha256": row.sha256,
        "frames_sha256": row.frames_sha256,
        "error": row.error,
    }
    return json.dumps(values, ensure_ascii=False) + "\n"
