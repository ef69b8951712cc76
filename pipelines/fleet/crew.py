"""Lets workers carry out rows at the same time, each called by a thread of its own.

The journal has the leases: a row is `running` in one attempt of one worker. A worker that does not beat in
time loses its row to another one; when it comes back, its attempt is a stale one and cannot publish.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from ..errors import WorkerLostError
from .batch_folder import BatchFolder
from .batch_rows import BatchRow
from .manifest import append_result
from .retries import Cause, cause_of
from .row_attempt import facts_of, finish_move, with_seed
from .row_journal import JournalRow, RowJournal, StaleAttemptError
from .row_schedule import Lease, OpenRow, RowSchedule
from .worker import LeaseLost, Task, Worker

__all__ = ["Crew", "RowWatcher"]

log = logging.getLogger(__name__)

_LOOK_S = 0.5  # how often leases and cancelled rows are looked for
_OWN_SLEEP_S = 5.0  # after such a gap this process was stopped itself, and no worker could be heard
_PATIENCE_S = 600.0  # how long to wait for silent workers when there are no others
_END_S = 10.0  # how long a stopped worker may take to return


class RowWatcher(Protocol):
    """Shows how far a batch is. Is called by one thread at a time."""

    def resumed(self, done: int, rows: int) -> None:
        """So many of the rows were made by an earlier process."""

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        """A row begins. left_s: seconds until the end of the batch; None before a row was measured."""

    def ended(self, row: JournalRow) -> None:
        """A row is done, has failed, or waits for another attempt; then it says the error of this one."""


class Crew:
    """The workers of a batch, and the rows that are not done.

    rows:    {number in the journal: row}. open_rows: the same ones, for the schedule.
    clock:   returns seconds; only grows.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        rows: Mapping[int, BatchRow],
        open_rows: Sequence[OpenRow],
        journal: RowJournal,
        folder: BatchFolder,
        watcher: RowWatcher,
        *,
        keep_going: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers, self._rows = workers, rows
        self._open = {row.number: row for row in open_rows}
        self._journal, self._folder, self._watcher = journal, folder, watcher
        self._keep_going, self._clock = keep_going, clock
        self._schedule = RowSchedule(open_rows)
        for worker in workers:
            self._schedule.add_worker(worker.name, worker.place, worker.lease_s, worker.memory_bytes)
        self._changed = threading.Condition(threading.RLock())
        self._no_more = False  # begin no rows; those that run may end
        self._stopped = False  # end those that run too
        self._fault: BaseException | None = None
        self._last_loss = ""
        self._began, self._work_done = clock(), 0.0
        self._begun: set[int] = set()  # rows, however often they were tried
        self._hopeless_since: float | None = None

    def work(self) -> None:
        """Carry out the rows. Returns when all have ended, or after a failure unless `keep_going`.

        A single worker of this process is called by the calling thread, so that Ctrl-C reaches it.

        Raises WorkerLostError when rows are left that no worker will take; what a worker raised that is no
        failure of a row.
        """
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watch.start()
        try:
            if len(self._workers) == 1 and self._workers[0].lease_s is None:
                self._drive(self._workers[0])
            else:
                self._drive_all()
        finally:
            ended.set()
            watch.join()
        if self._fault is not None:
            raise self._fault

    def _drive_all(self) -> None:
        threads = [
            threading.Thread(target=self._drive, args=(worker,), name=worker.name, daemon=True)
            for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        try:
            with self._changed:
                while self._goes_on(threads):
                    self._changed.wait(_LOOK_S)
                if not self._no_more:
                    self._require_hope(self._clock())
        except BaseException as error:
            self._stop(error)
        finally:
            for worker in self._workers:
                worker.close()
            for thread in threads:
                thread.join(_END_S)

    def _goes_on(self, threads: Sequence[threading.Thread]) -> bool:
        """Whether a row runs or will. A thread that waits for a silent worker is not waited for."""
        if self._stopped or self._schedule.is_over:
            return False
        return any(thread.is_alive() for thread in threads) and not (
            self._no_more and not self._schedule.is_leased
        )

    def _drive(self, worker: Worker) -> None:
        try:
            while (row := self._next(worker)) is not None:
                self._attempt(worker, row)
        except BaseException as error:
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        with self._changed:
            self._fault = self._fault or error
            self._no_more = self._stopped = True
            self._changed.notify_all()

    def _next(self, worker: Worker) -> JournalRow | None:
        """Wait for a row that the worker should take, and lease it. None: there will be none."""
        with self._changed:
            while not self._no_more and not self._schedule.is_over:
                if self._schedule.is_given_up(worker.name):
                    return None
                now = self._clock()
                found = self._schedule.next_for(worker.name, now)
                if found is None:
                    self._changed.wait(_LOOK_S)
                elif (row := self._journal.begin(found.number, worker.name)) is None:
                    self._schedule.forget(found.number)
                else:
                    self._schedule.lease(worker.name, found, row.attempt, now)
                    self._begun.add(row.number)
                    self._watcher.begun(len(self._begun), len(self._open), row, self._left_s(now))
                    return row
            return None

    def _left_s(self, now: float) -> float | None:
        if not self._work_done:
            return None
        return (now - self._began) / self._work_done * self._schedule.work_left

    def _attempt(self, worker: Worker, row: JournalRow) -> None:
        began = self._clock()
        try:
            made = worker.make(self._task(worker, row))
            facts = facts_of(made)
        except BaseException as error:
            self._failed(worker, row, error, self._clock() - began)
            return
        self._made(worker, row, {**facts, "seconds": round(self._clock() - began, 3)})

    def _task(self, worker: Worker, row: JournalRow) -> Task:
        def beat() -> None:
            with self._changed:
                held = self._schedule.beat(worker.name, row.number, row.attempt, self._clock())
                if not held or self._stopped:
                    raise LeaseLost

        return Task(
            request=with_seed(self._rows[row.number], row),
            folder=self._folder.attempt(row),
            name=row.name,
            attempt=row.attempt,
            smaller=self._open[row.number].smaller,
            beat=beat,
        )

    def _made(self, worker: Worker, row: JournalRow, facts: Mapping[str, object]) -> None:
        try:
            with self._changed:
                self._journal.publish(row.number, row.attempt, **facts)
        except StaleAttemptError:
            log.info("%s came back with %s too late; its file is dropped", worker.name, row.name)
            self._give_up(worker, row)
            return
        ended = finish_move(self._journal, self._folder, self._journal.row(row.number))
        with self._changed:
            done = self._schedule.drop(worker.name, row.number, row.attempt)
            self._work_done += 0.0 if done is None else done.work
            self._tell(ended)

    def _failed(self, worker: Worker, row: JournalRow, error: BaseException, seconds: float) -> None:
        with self._changed:
            cause = None if self._stopped else cause_of(error)
            if cause is not None:
                again = self._schedule.retry(worker.name, row.number, row.attempt, cause, self._clock())
                self._record(row, cause, str(error) or type(error).__name__, seconds, again=again)
                return
            self._schedule.give_back(worker.name, row.number, row.attempt)
            with suppress(StaleAttemptError):
                self._journal.stop(row.number, row.attempt)
            self._folder.discard(row)
            self._changed.notify_all()
        if not self._stopped and not isinstance(error, LeaseLost):
            raise error

    def _record(self, row: JournalRow, cause: Cause, error: str, seconds: float, *, again: bool) -> None:
        """Record a failed attempt. again: its row waits for another one; else it has failed."""
        if cause in ("lost", "absent"):
            self._last_loss = error
        try:
            if again:
                ended = self._journal.stop(row.number, row.attempt, error, cause)
            else:
                ended = self._journal.fail(row.number, row.attempt, error, round(seconds, 3), cause)
        except StaleAttemptError:  # it was cancelled, or is that of another worker
            if again:
                self._schedule.forget(row.number)
            self._folder.discard(row)
            return
        self._tell(ended)

    def _give_up(self, worker: Worker, row: JournalRow) -> None:
        with self._changed:
            self._schedule.drop(worker.name, row.number, row.attempt)
            self._folder.discard(row)
            self._changed.notify_all()

    def _tell(self, row: JournalRow) -> None:
        if row.state in ("done", "failed"):
            append_result(self._folder.path, row)
        if row.state == "failed" and not self._keep_going:
            self._no_more = True
        self._watcher.ended(row)
        self._changed.notify_all()

    # ---- the watch

    def _watch(self, ended: threading.Event) -> None:
        looked = time.monotonic()
        while not ended.wait(_LOOK_S):
            now, before, looked = time.monotonic(), looked, time.monotonic()
            try:
                with self._changed:
                    if now - before > _OWN_SLEEP_S:
                        self._schedule.extend_all(self._clock())
                    self._look()
            except BaseException as error:
                self._stop(error)
                return

    def _look(self) -> None:
        now = self._clock()
        for worker, lease in self._schedule.late(now):
            self._silence(worker, lease, now)
        for number in self._journal.numbers("cancelled"):
            self._schedule.cancel(number)
        for number in self._journal.numbers("waiting"):  # another process said so, or its file is gone
            if number in self._open and not self._schedule.knows(number):
                self._schedule.reopen(self._open[number])
        self._require_hope(now)
        self._changed.notify_all()

    def _silence(self, worker: str, lease: Lease, now: float) -> None:
        row = self._journal.row(lease.row.number)
        if (row.state, row.attempt) != ("running", lease.attempt):
            return  # its files are being moved
        known = next(one for one in self._workers if one.name == worker)
        error = f"{worker} has not answered for {known.lease_s:g} s"
        again = self._schedule.silence(worker, row.number, row.attempt, now)
        self._record(row, "lost", error, known.lease_s or 0.0, again=again)

    def _require_hope(self, now: float) -> None:
        if not self._schedule.is_hopeless:
            self._hopeless_since = None
            return
        since = self._hopeless_since = now if self._hopeless_since is None else self._hopeless_since
        if self._schedule.has_silent and now - since < _PATIENCE_S:
            return
        raise WorkerLostError(
            f"every worker is lost, and {len(self._schedule.waiting)} rows wait; the last error: "
            f"{self._last_loss}. The same command goes on with them"
        )
