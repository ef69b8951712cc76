"""Runs the rows of a batch, one after another, and goes on where an earlier process ended.

Each row ends in exactly one complete file with its receipt, or in none. In this order: the journal says that
an attempt runs; its files are made beside; the journal says that they are complete; they move into their
places; the journal says that the row is done; the manifest gets a line. A process may be killed anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import Problem, RequestError, WanDuetError, is_out_of_memory
from ..request.base import WanRequest
from ..request.parse import parse
from ..video.output import sidecar
from ..weights.hashing import file_hash
from .batch_folder import BatchFolder, sync
from .batch_rows import BatchRow, check_rows
from .manifest import append_result, rewrite_manifest
from .row_journal import JournalRow, RowJournal

__all__ = ["BatchResult", "MadeFile", "RowWatcher", "Worker", "run_batch"]


@dataclass(frozen=True)
class MadeFile:
    """A complete result. frames_sha256: of its receipt, if it says one."""

    path: Path
    frames_sha256: str | None


class Worker(Protocol):
    """What carries out a row."""

    @property
    def place(self) -> str:
        """Its name in the journal, such as "local"."""

    def check(self, request: WanRequest) -> object:
        """Raise an error if the request cannot run."""

    def make(self, request: WanRequest, folder: Path, name: str) -> MadeFile:
        """Write NAME with its suffix, and its receipt, into `folder`."""


class RowWatcher(Protocol):
    """Shows how far a batch is."""

    def resumed(self, done: int, rows: int) -> None:
        """So many of the rows were made by an earlier process."""

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        """A row begins. left_s: seconds until the end of the batch; None before a row was measured."""

    def ended(self, row: JournalRow) -> None:
        """A row is done or has failed."""


@dataclass(frozen=True)
class BatchResult:
    """done, failed: rows of the file. waiting: those that were not begun after a failure."""

    done: int
    failed: int
    waiting: int


def run_batch(
    rows: Sequence[BatchRow],
    folder: BatchFolder,
    worker: Worker,
    watcher: RowWatcher,
    *,
    settings: dict[str, Any],
    problems: Sequence[Problem] = (),
    keep_going: bool = False,
    now: Callable[[], float] = time.time,
) -> BatchResult:
    """Run every row that is not done yet. A row that failed in an earlier run is tried again.

    settings:   as for `RowJournal.enter`.
    problems:   of lines that are no rows; told together with those of the check.
    keep_going: go on with the next row when one fails; else the batch ends there.

    Raises RequestError with the problems of all rows before anything runs, and if another process works in
    `folder`; JournalError; what the user's stop raises. After any of them an equal call goes on.
    """
    with folder.alone():
        journal = RowJournal(folder.journal, now)
        try:
            for row in journal.resume():
                _publish(journal, folder, row)
            entered = journal.enter(rows, settings)
            for row in entered:
                if row.state == "done" and not folder.holds(row):
                    journal.lose(row.number)
            open_rows = [
                (row, journal.row(known.number))
                for row, known in zip(rows, entered, strict=True)
                if journal.row(known.number).state != "done"
            ]
            for _, known in open_rows:
                if known.attempt == 0:
                    folder.require_free(known)
            found = [*problems, *check_rows([row for row, _ in open_rows], worker.check)]
            if found:
                raise RequestError(found)
            rewrite_manifest(folder.path, journal.rows())
            watcher.resumed(len(rows) - len(open_rows), len(rows))
            _run_open(open_rows, journal, folder, worker, watcher, keep_going)
            folder.close()
            states = [journal.row(row.number).state for row in entered]
        finally:
            journal.close()
    done, failed = states.count("done"), states.count("failed")
    return BatchResult(done, failed, len(states) - done - failed)


def _run_open(
    rows: Sequence[tuple[BatchRow, JournalRow]],
    journal: RowJournal,
    folder: BatchFolder,
    worker: Worker,
    watcher: RowWatcher,
    keep_going: bool,
) -> None:
    began = time.monotonic()
    for index, (row, known) in enumerate(rows):
        left_s = (time.monotonic() - began) / index * (len(rows) - index) if index else None
        watcher.begun(index + 1, len(rows), known, left_s)
        ended = _run_row(row.request, known, journal, folder, worker)
        if ended.state != "waiting":
            append_result(folder.path, ended)
        watcher.ended(ended)
        if ended.state == "failed" and not keep_going:
            return


def _run_row(
    request: WanRequest, known: JournalRow, journal: RowJournal, folder: BatchFolder, worker: Worker
) -> JournalRow:
    row, began = journal.begin(known.number, worker.place), time.monotonic()
    seeded = parse(request.kind, {**request.document(), "seed": int(row.seed)})
    try:
        made = worker.make(seeded, folder.attempt(row), row.name)
    except BaseException as error:
        if isinstance(error, (WanDuetError, OSError)) or is_out_of_memory(error):
            return journal.fail(row.number, row.attempt, str(error), _since(began))
        journal.stop(row.number, row.attempt)  # by the user, or by a fault of this program
        folder.clean(row)
        raise
    for file in (made.path, sidecar(made.path)):
        sync(file)
    journal.publish(
        row.number,
        row.attempt,
        file=made.path.name,
        size_bytes=made.path.stat().st_size,
        sha256=file_hash(made.path),
        frames_sha256=made.frames_sha256,
        seconds=_since(began),
    )
    return _publish(journal, folder, journal.row(row.number))


def _publish(journal: RowJournal, folder: BatchFolder, row: JournalRow) -> JournalRow:
    if not folder.publish(row):
        return journal.lose(row.number)
    ended = journal.finish(row.number, row.attempt)
    folder.clean(ended)
    return ended


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
