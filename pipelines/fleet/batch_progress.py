"""Says how far a batch is, from its journal alone: also for a process that does not run it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from ..errors import RequestError
from ..video.output import sidecar
from .batch_folder import BatchFolder
from .row_journal import RowJournal
from .worker import BOUGHT

__all__ = ["BatchProgress", "ProgressRow", "left_of", "open_batch", "progress_of", "rows_named"]


class ProgressRow(Protocol):
    """What is told of a row: columns of `JournalRow`."""

    @property
    def name(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def place(self) -> str | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def work(self) -> float | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def batch(self) -> str: ...
    @property
    def updated_at(self) -> float: ...


@dataclass(frozen=True)
class BatchProgress:
    """rows: all of the journal. left_s: seconds until the end at the measured rates; None while unknown.

    is_running: a process works on the batch now. now: seconds since 1970.
    prices: of the rows that were bought and are done, in US dollars; None for one that is not known.
    """

    rows: Sequence[ProgressRow]
    is_running: bool
    left_s: float | None
    now: float
    prices: Sequence[float | None] = ()

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
            "seconds": round(sum(row.seconds or 0.0 for row in self.rows if row.state == "done"), 1),
            "usd": round(sum(price or 0.0 for price in self.prices), 4) if self.prices else None,
            "rows_of_unknown_price": sum(price is None for price in self.prices),
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

    def since(self, row: ProgressRow) -> float:
        """Return for how many seconds the row is in its state."""
        return round(max(0.0, self.now - row.updated_at), 1)


_STATES = ("waiting", "running", "publishing", "done", "failed", "cancelled")


def open_batch(folder: Path) -> RowJournal:
    """Open the journal of a batch, which another process may be running. Raises RequestError without one."""
    file = folder / BatchFolder.JOURNAL
    if not file.is_file():
        raise RequestError.of(
            "DIR", f"{folder} has no batch", "give the folder that `batch run -o` was given"
        )
    return RowJournal(file, time.time)


def progress_of(journal: RowJournal, now: float) -> BatchProgress:
    """Return how far the batch of a journal is. now: seconds since 1970."""
    rows, folder = journal.rows(), journal.file.parent
    bought = [row for row in rows if row.state == "done" and (row.place or "").startswith(BOUGHT)]
    prices = [_price(folder / str(row.file), row.updated_at) for row in bought]
    return BatchProgress(rows, _is_running(folder), left_of(rows), now, prices)


def rows_named(journal: RowJournal, names: Sequence[str]) -> list[int]:
    """Return the numbers of the rows with these ids; of all rows without a name. Raises RequestError."""
    numbers = {row.name.lower(): row.number for row in journal.rows()}
    missing = [name for name in names if name.lower() not in numbers]
    if missing:
        found = f"{', '.join(missing)}: no such row"
        raise RequestError.of("ROW", found, "`wan-duet batch export` lists the rows")
    return [numbers[name.lower()] for name in names] or list(numbers.values())


def left_of(rows: Sequence[ProgressRow]) -> float | None:
    """Return the seconds until the end: as done rows took by their work, with as many at once as run now.

    None before a row was measured, and when none is left.
    """
    done = [row for row in rows if row.state == "done" and row.seconds and row.work]
    left = [row.work or 0.0 for row in rows if row.state in ("waiting", "running", "publishing")]
    if not done or not left:
        return None
    rate = sum(row.seconds or 0.0 for row in done) / sum(row.work or 0.0 for row in done)
    at_once = max(1, sum(row.state == "running" for row in rows))
    return rate * sum(left) / at_once


@lru_cache(maxsize=4096)
def _price(file: Path, made_at: float) -> float | None:
    """Return the US dollars in the receipt of a bought file: charged, else estimated. None if not known."""
    del made_at  # a row that is made again has another receipt
    try:
        price = json.loads(sidecar(file).read_text(encoding="utf-8"))["price"]
        usd = price["estimate_usd"] if price["charged_usd"] is None else price["charged_usd"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(usd) if isinstance(usd, (int, float)) else None


def _is_running(folder: Path) -> bool:
    lock = FileLock(BatchFolder.lock_of(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
