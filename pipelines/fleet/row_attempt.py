"""Moves the result of one attempt from "complete beside its place" to "done"."""

from __future__ import annotations

from typing import Any

from ..request.parse import parse
from ..video.output import sidecar
from ..weights.hashing import file_hash
from .batch_folder import BatchFolder, sync
from .batch_rows import BatchRow
from .row_journal import JournalRow, RowJournal
from .worker import MadeFile

__all__ = ["facts_of", "finish_move", "with_seed"]


def with_seed(row: BatchRow, known: JournalRow) -> Any:
    """Return the request of a row with the seed that the journal has for it, if its kind has seeds."""
    if "seed" not in type(row.request).model_fields:
        return row.request
    return parse(row.request.kind, {**row.request.document(), "seed": int(known.seed)})


def facts_of(made: MadeFile) -> dict[str, Any]:
    """Bring the files to the disk, and return what the journal has to know of them. Raises OSError."""
    for file in (made.path, sidecar(made.path)):
        sync(file)
    return {
        "file": made.path.name,
        "size_bytes": made.path.stat().st_size,
        "sha256": file_hash(made.path),
        "frames_sha256": made.frames_sha256,
    }


def finish_move(journal: RowJournal, folder: BatchFolder, row: JournalRow) -> JournalRow:
    """Move the files of a row that is `publishing`. Returns the row: done, or waiting if they are gone."""
    if not folder.publish(row):
        return journal.lose(row.number)
    ended = journal.finish(row.number, row.attempt)
    folder.clean(ended)
    return ended
