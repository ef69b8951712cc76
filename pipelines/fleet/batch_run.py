"""Runs the rows of a batch on its workers, and goes on where an earlier process ended.

Each row ends in exactly one complete file with its receipt, or in none. In this order: the journal says that
an attempt runs; its files are made beside; the journal says that they are complete; they move into their
places; the journal says that the row is done; the manifest gets a line. A process may be killed anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import Problem, RequestError
from ..remote.stored_form import fingerprint
from ..request.base import WanRequest
from .batch_folder import BatchFolder
from .batch_rows import BatchRow, NeedsAt, check_rows
from .crew import Crew, RowWatcher
from .manifest import rewrite_manifest
from .row_attempt import finish_move
from .row_journal import JournalRow, RowJournal
from .row_schedule import OpenRow
from .worker import Needs, Worker

__all__ = ["BatchResult", "run_batch"]


@dataclass(frozen=True)
class BatchResult:
    """done, failed, cancelled: rows of the file. waiting: those that were not begun after a failure."""

    done: int
    failed: int
    waiting: int
    cancelled: int = 0


def run_batch(
    rows: Sequence[BatchRow],
    folder: BatchFolder,
    workers: Sequence[Worker],
    watcher: RowWatcher,
    *,
    settings: dict[str, Any],
    problems: Sequence[Problem] = (),
    keep_going: bool = False,
    approve: Callable[[Sequence[NeedsAt]], None] = lambda _: None,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> BatchResult:
    """Run every row that is not done yet. A row that failed in an earlier run is tried again.

    workers:    carry out the rows at the same time; closed at the end.
    settings:   as for `RowJournal.enter`.
    problems:   of lines that are no rows; told together with those of the check.
    keep_going: go on with the other rows when one has failed; else no other row is begun.
    approve:    called before any row runs, with what each takes at the places that can run it; may raise.
    now:        returns seconds since 1970. clock: returns seconds that only grow, for leases.

    Raises RequestError with the problems of all rows before anything runs, and if another process works in
    `folder`; JournalError; what the user's stop raises. After any of them an equal call goes on.
    """
    with folder.alone(), _closing(workers):
        journal = RowJournal(folder.journal, now)
        try:
            entered = _entered(rows, folder, journal, settings)
            numbered = {known.number: row for row, known in zip(rows, entered, strict=True)}
            open_rows = [row for row in entered if row.state not in ("done", "cancelled")]
            for known in open_rows:
                if known.attempt == 0:
                    folder.require_free(known)
            needs, found = check_rows([numbered[row.number] for row in open_rows], _checks(workers))
            if found or problems:
                raise RequestError([*problems, *found])
            waiting = [
                _open_row(row, numbered[row.number], at) for row, at in zip(open_rows, needs, strict=True)
            ]
            journal.weigh({row.number: row.work for row in waiting})
            approve(needs)
            rewrite_manifest(folder.path, journal.rows())
            watcher.resumed(len(rows) - len(open_rows), len(rows))
            crew = Crew(
                workers, numbered, waiting, journal, folder, watcher, keep_going=keep_going, clock=clock
            )
            crew.work()
            folder.close()
            states = Counter(journal.row(row.number).state for row in entered)
        finally:
            journal.close()
    ended = states["done"], states["failed"], states["cancelled"]
    return BatchResult(ended[0], ended[1], len(entered) - sum(ended), ended[2])


def _entered(
    rows: Sequence[BatchRow], folder: BatchFolder, journal: RowJournal, settings: dict[str, Any]
) -> list[JournalRow]:
    """Finish what an earlier process was moving, and return the journal's row of each of `rows`."""
    for row in journal.resume():
        finish_move(journal, folder, row)
    folder.clean_all({row.name for row in journal.rows("done")})  # a process may have ended before it did
    entered = journal.enter(rows, settings)
    return [
        journal.lose(row.number) if row.state == "done" and not folder.holds(row) else row for row in entered
    ]


def _checks(workers: Sequence[Worker]) -> Mapping[str, Callable[[WanRequest], Needs]]:
    """Return the check of each place."""
    return {worker.place: worker.check for worker in reversed(workers)}


def _open_row(known: JournalRow, row: BatchRow, needs: NeedsAt) -> OpenRow:
    work = max(one.work for one in needs.values())
    least = max(one.least_bytes or 0 for one in needs.values())
    return OpenRow(known.number, _key(row.request), work, frozenset(needs), row.batch, least)


def _key(request: WanRequest) -> str:
    """Return what is loaded for a request beside the model: its LoRAs."""
    return fingerprint({"loras": request.payload().get("loras") or []})


@contextmanager
def _closing(workers: Sequence[Worker]) -> Iterator[None]:
    """Close the workers at the end."""
    try:
        yield
    finally:
        for worker in workers:
            worker.close()
