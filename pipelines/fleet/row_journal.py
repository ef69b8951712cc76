"""The journal of a batch: one SQLite table of rows, in the folder of their results.

    waiting ──> running ──> publishing ──> done
       ^           │
       ├───────────┴──> failed
       └── cancelled

A row is `running` under the number of its attempt, which is the epoch of its lease: only that attempt may
publish. `publishing`: the files are complete, and are moved into their places. A process that begins finishes
those moves, and starts what was running again. `cancelled` by the user, from waiting or running.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..errors import JournalError, RequestError
from ..remote.journal_file import as_journal_error, insert, open_journal, transaction, update
from ..remote.stored_form import fingerprint, stored_form
from ..request.seeds import seed_for_run
from .batch_rows import BatchRow

__all__ = ["JournalRow", "RowJournal", "RowState", "StaleAttemptError"]

RowState = Literal["waiting", "running", "publishing", "done", "failed", "cancelled"]

_FIRST = """
CREATE TABLE rows (
  number INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  line INTEGER NOT NULL,
  request_sha256 TEXT NOT NULL,
  request_json TEXT NOT NULL,
  settings_json TEXT NOT NULL,
  seed TEXT NOT NULL,
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  place TEXT,
  file TEXT,
  size_bytes INTEGER,
  sha256 TEXT,
  frames_sha256 TEXT,
  seconds REAL,
  error TEXT,
  created_at REAL NOT NULL,
  updated_at REAL NOT NULL
);
CREATE INDEX rows_by_request ON rows (request_sha256);
CREATE INDEX rows_by_state ON rows (state)
"""
_SECOND = """
ALTER TABLE rows ADD COLUMN batch TEXT NOT NULL DEFAULT '';
ALTER TABLE rows ADD COLUMN work REAL;
ALTER TABLE rows ADD COLUMN cause TEXT
"""
_MIGRATIONS = (_FIRST, _SECOND)
_DAMAGED = "Move it away, with the files whose names begin so; a new run then makes every row again"


class StaleAttemptError(JournalError):
    """The row is no longer that of this attempt: another worker has it, or it was cancelled."""


@dataclass(frozen=True)
class JournalRow:
    """One row; the fields are the columns. Times are seconds since 1970.

    name:           of its files, without suffix. line: of the file that was read last.
    request_sha256: of the request as it was written. request_json: its stored form.
    seed:           that of the request, or the one that was drawn; text, as SQLite's integers are too small.
    attempt:        how often the row was begun. place: the worker that has or had it.
    file:           name of the result in the folder of the batch. sha256: of its content.
    batch:          rows of several take turns. work: as `Worker.check` counts it; None before a check.
    cause:          of the last failure, as `retries` names them. error: what was said then.
    """

    number: int
    name: str
    line: int
    request_sha256: str
    request_json: str
    settings_json: str
    seed: str
    state: RowState
    attempt: int
    place: str | None
    file: str | None
    size_bytes: int | None
    sha256: str | None
    frames_sha256: str | None
    seconds: float | None
    error: str | None
    created_at: float
    updated_at: float
    batch: str = ""
    work: float | None = None
    cause: str | None = None


_COLUMNS = ", ".join(field.name for field in fields(JournalRow))


class RowJournal:
    """The table of rows. Threads may share it. Raises JournalError if the file cannot be read or written.

    now: returns seconds since 1970.
    """

    def __init__(self, file: Path, now: Callable[[], float]) -> None:
        self.file, self._now, self._lock = file, now, threading.RLock()
        with as_journal_error(file, _DAMAGED):
            self._database = open_journal(file, _MIGRATIONS)

    def close(self) -> None:
        self._database.close()

    def enter(self, rows: Sequence[BatchRow], settings: dict[str, Any]) -> list[JournalRow]:
        """Return the journal's row of each of `rows`, in their order. Rows that it does not have are new.

        A row is known by its name and request, or without a name by its request; of several equal requests
        without names each has a row of its own.

        settings: what decides the result beside the request, such as the hashes of the weights.

        Raises RequestError if earlier rows had other settings, or if a name belongs to another request.
        """
        written = json.dumps(settings, sort_keys=True)
        with self._transaction():
            if any(row.settings_json != written for row in self.rows()):
                found = "its earlier rows were made with another model, other weights or other settings"
                raise RequestError.of("--output", found, "give the same ones, or another folder")
            taken: set[int] = set()
            entered = []
            for row in rows:
                known = self._known(row, taken) or self._insert(row, written)
                taken.add(known.number)
                self._set(known.number, line=row.line)
                entered.append(self.row(known.number))
            return entered

    def resume(self) -> list[JournalRow]:
        """Let rows wait again that a dead process was running. Returns those that it was publishing.

        Only for a process that is alone with the folder.
        """
        with self._transaction():
            for row in self.rows("running"):
                self._set(row.number, state="waiting")
            return self.rows("publishing")

    def begin(self, number: int, place: str) -> JournalRow | None:
        """Begin the next attempt of a row. Returns None for one that was cancelled.

        Raises JournalError for one that runs or is being published.
        """
        with self._transaction():
            row = self.row(number)
            if row.state == "cancelled":
                return None
            if row.state in ("running", "publishing"):
                raise JournalError(f"row {row.name} is {row.state}, so it cannot be begun")
            fresh = dict.fromkeys(("file", "size_bytes", "sha256", "frames_sha256", "error", "cause"))
            self._set(number, state="running", attempt=row.attempt + 1, place=place, **fresh)
            return self.row(number)

    def publish(self, number: int, attempt: int, **columns: Any) -> None:
        """Record that the files of this attempt are complete. Raises StaleAttemptError for an older one."""
        self._leave(number, attempt, "running", state="publishing", **columns)

    def finish(self, number: int, attempt: int) -> JournalRow:
        """Record that the files are in their places."""
        return self._leave(number, attempt, "publishing", state="done")

    def fail(self, number: int, attempt: int, error: str, seconds: float, cause: str) -> JournalRow:
        told = {"error": error, "cause": cause, "seconds": seconds}
        return self._leave(number, attempt, "running", state="failed", **told)

    def stop(
        self, number: int, attempt: int, error: str | None = None, cause: str | None = None
    ) -> JournalRow:
        """Let a row wait again: the user stopped it, or its attempt failed and is not the last one.

        Raises StaleAttemptError if another attempt has it.
        """
        return self._leave(number, attempt, "running", state="waiting", error=error, cause=cause)

    def weigh(self, works: Mapping[int, float]) -> None:
        """Record the work of rows: {number: work}."""
        with self._transaction():
            for number, work in works.items():
                self._set(number, work=work)

    def cancel(self, numbers: Sequence[int]) -> list[JournalRow]:
        """Cancel rows that wait, run or have failed, and return those. Any process may.

        An attempt that runs cannot publish any more.
        """
        return self._change(numbers, ("waiting", "running", "failed"), "cancelled")

    def retry(self, numbers: Sequence[int]) -> list[JournalRow]:
        """Let rows wait again that have failed or were cancelled, and return those. Any process may."""
        return self._change(numbers, ("failed", "cancelled"), "waiting")

    def lose(self, number: int) -> JournalRow:
        """Let a row whose files are not there wait again."""
        with self._transaction():
            self._set(number, state="waiting")
            return self.row(number)

    def row(self, number: int) -> JournalRow:
        """Return the row with this number. Raises JournalError if there is none."""
        found = self._select("number = ?", number)
        if not found:
            raise JournalError(f"{self.file} has no row {number}")
        return found[0]

    def rows(self, state: RowState | None = None) -> list[JournalRow]:
        """In the order of their numbers."""
        return self._select("1") if state is None else self._select("state = ?", state)

    def numbers(self, state: RowState) -> list[int]:
        """Return the numbers of the rows in this state."""
        with self._lock, as_journal_error(self.file, _DAMAGED):
            found = self._database.execute("SELECT number FROM rows WHERE state = ?", (state,)).fetchall()
        return [number for (number,) in found]

    def _change(
        self, numbers: Sequence[int], before: Sequence[RowState], after: RowState
    ) -> list[JournalRow]:
        with self._transaction():
            found = [row for number in numbers if (row := self.row(number)).state in before]
            for row in found:
                self._set(row.number, state=after)
            return [self.row(row.number) for row in found]

    def _known(self, row: BatchRow, taken: set[int]) -> JournalRow | None:
        sha256 = _fingerprint(row)
        if row.name is None:
            equal = self._select("request_sha256 = ?", sha256)
            return next((item for item in equal if item.number not in taken and item.name.isdecimal()), None)
        named = self._select("name = ?", row.name)
        if named and named[0].request_sha256 != sha256:
            found = f"{row.name} is the id of another request in {self.file.parent}"
            raise RequestError.of(f"{row.where}: id", found, "give another id, or another folder")
        return named[0] if named else None

    def _insert(self, row: BatchRow, settings: str) -> JournalRow:
        now = self._now()
        (number,) = self._database.execute("SELECT COALESCE(MAX(number), 0) + 1 FROM rows").fetchone()
        values = JournalRow(
            number=number,
            name=row.name or f"{number:05}",
            line=row.line,
            request_sha256=_fingerprint(row),
            request_json=json.dumps(stored_form(_document(row)), ensure_ascii=False),
            settings_json=settings,
            # One that every place takes.
            seed=str(seed_for_run(row.request, "fal")),
            state="waiting",
            attempt=0,
            place=None,
            file=None,
            size_bytes=None,
            sha256=None,
            frames_sha256=None,
            seconds=None,
            error=None,
            created_at=now,
            updated_at=now,
            batch=row.batch,
        )
        insert(self._database, "rows", values)
        return values

    def _leave(self, number: int, attempt: int, before: RowState, **columns: Any) -> JournalRow:
        with self._transaction():
            row = self.row(number)
            if (row.state, row.attempt) != (before, attempt):
                raise StaleAttemptError(
                    f"row {row.name} is {row.state} in attempt {row.attempt}, not {before} in {attempt}"
                )
            self._set(number, **columns)
            return self.row(number)

    def _set(self, number: int, **columns: Any) -> None:
        update(self._database, "rows", ("number", number), {**columns, "updated_at": self._now()})

    def _select(self, where: str, *values: Any) -> list[JournalRow]:
        with self._lock, as_journal_error(self.file, _DAMAGED):
            found = self._database.execute(
                f"SELECT {_COLUMNS} FROM rows WHERE {where} ORDER BY number",  # noqa: S608
                values,
            ).fetchall()
        return [JournalRow(*row) for row in found]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with as_journal_error(self.file, _DAMAGED), transaction(self._database, self._lock):
            yield


def _document(row: BatchRow) -> dict[str, Any]:
    return {"kind": row.request.kind, **row.request.document()}


def _fingerprint(row: BatchRow) -> str:
    return fingerprint(_document(row))
