"""Says how far a batch is, from its journal alone: also for a process that does not run it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import RequestError
from .batch_folder import BatchFolder
from .row_journal import JournalRow, RowJournal

__all__ = ["BatchProgress", "open_batch", "progress_of", "rows_named"]


@dataclass(frozen=True)
class BatchProgress:
    """rows: all of the journal. left_s: seconds until the end at the measured rates; None while unknown.

    is_running: a process works on the batch now. now: seconds since 1970.
    """

    rows: Sequence[JournalRow]
    is_running: bool
    left_s: float | None
    now: float

    @property
    def counts(self) -> dict[str, int]:
        """{state: number of rows}, of the states that there are."""
        return dict(sorted(Counter(row.state for row in self.rows).items()))

    @property
    def is_over(self) -> bool:
        """Whether no row waits or runs."""
        return all(row.state in ("done", "failed", "cancelled") for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON, with the rows that run or have failed."""
        return {
            "rows": len(self.rows),
            **{state: self.counts.get(state, 0) for state in _STATES},
            "is_running": self.is_running,
            "left_s": None if self.left_s is None else round(self.left_s, 1),
            "now": [
                {"id": row.name, "place": row.place, "attempt": row.attempt, "since_s": self.since(row)}
                for row in self.rows
                if row.state == "running"
            ],
            "errors": [
                {"id": row.name, "line": row.line, "state": row.state, "cause": row.cause, "error": row.error}
                for row in self.rows
                if row.error is not None
            ],
        }

    def since(self, row: JournalRow) -> float:
        """Return for how many seconds the row is in its state."""
        return round(max(0.0, self.now - row.updated_at), 1)


_STATES = ("waiting", "running", "publishing", "done", "failed", "cancelled")


def open_batch(folder: Path) -> RowJournal:
    """Open the journal of a batch, which another process may be running. Raises RequestError without one."""
    file = folder / "batch.sqlite"
    if not file.is_file():
        raise RequestError.of(
            "DIR", f"{folder} has no batch", "give the folder that `batch run -o` was given"
        )
    return RowJournal(file, time.time)


def progress_of(journal: RowJournal, now: float) -> BatchProgress:
    """Return how far the batch of a journal is. now: seconds since 1970."""
    rows = journal.rows()
    return BatchProgress(rows, _is_running(journal.file.parent), _left_s(rows), now)


def rows_named(journal: RowJournal, names: Sequence[str]) -> list[int]:
    """Return the numbers of the rows with these ids; of all rows without a name. Raises RequestError."""
    numbers = {row.name.lower(): row.number for row in journal.rows()}
    missing = [name for name in names if name.lower() not in numbers]
    if missing:
        found = f"{', '.join(missing)}: no such row"
        raise RequestError.of("ROW", found, "`wan-duet batch export` lists the rows")
    return [numbers[name.lower()] for name in names] or list(numbers.values())


def _left_s(rows: Sequence[JournalRow]) -> float | None:
    """Estimate from what done rows took, by their work, and from how many rows run at the same time."""
    done = [row for row in rows if row.state == "done" and row.seconds and row.work]
    left = [row.work or 0.0 for row in rows if row.state in ("waiting", "running", "publishing")]
    if not done or not left:
        return None
    rate = sum(row.seconds or 0.0 for row in done) / sum(row.work or 0.0 for row in done)
    at_once = max(1, sum(row.state == "running" for row in rows))
    return rate * sum(left) / at_once


def _is_running(folder: Path) -> bool:
    lock = FileLock(BatchFolder.lock_of(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
