"""Carries out the jobs of the queue: each worker has a thread that takes one job after another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import JournalError
from ..fleet.batch_folder import BatchFolder
from ..fleet.retries import cause_of
from ..fleet.row_attempt import facts_of
from ..fleet.worker import LeaseLost, LeftRunning, Task, Worker
from ..request.base import WanRequest
from ..request.parse import parse
from .job_queue import JobQueue
from .overflow import Overflow
from .served_job import ServedJob

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Lane", "LaneProgress", "publish_job"]

log = logging.getLogger(__name__)

_IDLE_S = 0.5  # how often an idle lane looks for a job that nobody told it of
_PATIENCE_S = 5.0  # how long to wait before a journal that cannot be written is tried again
_REST_S, _LONGEST_REST_S = 5.0, 300.0  # how long a worker that was lost takes no job
_END_S = 10.0  # how long a worker of another process may take to stop
_LOOK_S = 0.5  # how often a running job looks whether it was cancelled


@dataclass
class LaneProgress:
    """How far the running job of a lane is; a `Progress` of the run. `Task.beat` stops it."""

    stage: str = ""
    done: int = 0
    total: int = 0

    def begin(self, stage: str, total: int, unit: str) -> None:
        del unit
        self.stage, self.done, self.total = stage, 0, total

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        del preview
        self.done = done

    def check(self) -> None:
        return

    def document(self) -> dict[str, Any]:
        return {"stage": self.stage, "done": self.done, "total": self.total}


@dataclass
class Lane:
    """One worker, and the thread that calls it.

    progress: the one that the runs of the worker report to.
    overflow: which jobs this worker buys. None: it takes all.
    named:    returns a request as the worker can read it, for one in another folder or on another machine.
    """

    worker: Worker
    queue: JobQueue
    folder: BatchFolder
    progress: LaneProgress
    overflow: Overflow | None = None
    named: Callable[[WanRequest], WanRequest] = lambda request: request
    job: ServedJob | None = None  # the one that runs
    _wake: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _looked_at: float = 0.0
    _beaten_at: float = 0.0
    _losses: int = 0  # of the worker, one after another

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"lane-{self.worker.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tell the thread that there is a job, or that its job was cancelled."""
        self._looked_at = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Stop the running job, which waits again, and end the thread."""
        self._stopping.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(None if self.worker.lease_s is None else _END_S)
        self.worker.close()  # which also ends a worker that is silent
        if self._thread is not None:
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def look(self) -> None:
        """Let the job of a worker that has been silent for longer than its lease wait again."""
        job, lease_s = self.job, self.worker.lease_s
        if job is not None and lease_s is not None and time.monotonic() - self._beaten_at > lease_s:
            log.warning("%s: %s has not answered for %g s", job.name, self.worker.name, lease_s)
            self.queue.give_back(job, 0.0)
            self._beaten_at = time.monotonic()

    def _work(self) -> None:
        while not self._stopping.is_set():
            if not self._work_once():
                self._wake.wait(_IDLE_S)
                self._wake.clear()

    def _work_once(self) -> bool:
        """Carry out one job, or return False if there is none. Waits while the journal cannot be used."""
        try:
            return self._take_and_run()
        except JournalError as error:  # a full disk
            log.error("%s", error)
            self._stopping.wait(_PATIENCE_S)
            return True

    def _take_and_run(self) -> bool:
        """A job that an error of the journal cut short waits again."""
        job = self.job or (self.overflow or self.queue).take(self.worker.name)
        if job is None:
            return False
        if self.job is not None:
            self.queue.give_back(job, 0.0)
        else:
            self.job, self._beaten_at = job, time.monotonic()
            self._run(job)
        self.job = None
        return True

    def _run(self, job: ServedJob) -> None:
        log.info("%s: begins on %s", job.name, self.worker.name)
        began = time.monotonic()
        self.progress.begin("", 0, "")
        try:
            made = self.worker.make(self._task(job))
            facts = facts_of(made)
        except LeaseLost:
            self.queue.give_back(job, _since(began))
            self.folder.clean(job)
            return
        except Exception as error:
            self._failed(job, error, _since(began))
            return
        self._losses = 0
        self._end(job, lambda: self._publish(job, _since(began), facts))

    def _failed(self, job: ServedJob, error: Exception, seconds: float) -> None:
        said, cause = str(error) or type(error).__name__, cause_of(error)
        if self.overflow is not None and cause in ("refused", "absent"):
            self.overflow.hand_back(job, said)
        elif cause in ("lost", "absent"):
            log.warning("%s: %s", job.name, said)
            if cause == "absent":
                self.queue.give_back(job, seconds)
            else:
                self._end(job, lambda: self.queue.lose_worker(job, said, seconds))
            self._rest()
        else:
            if cause is None:
                log.error("%s: a fault of this program", job.name, exc_info=error)
            self._end(job, lambda: self.queue.fail(job, said, seconds))
        self.folder.clean(job)

    def _rest(self) -> None:
        """Leave the jobs to other workers for a while, longer after each loss."""
        self._losses += 1
        self._stopping.wait(min(_REST_S * 2 ** (self._losses - 1), _LONGEST_REST_S))

    def _task(self, job: ServedJob) -> Task:
        return Task(
            self.named(parse(job.kind, job.request_fields())),
            self.folder.attempt(job),
            job.name,
            job.attempt,
            beat=lambda: self._require_running(job),
        )

    def _publish(self, job: ServedJob, seconds: float, facts: dict[str, Any]) -> None:
        publish_job(self.queue, self.folder, self.queue.publish(job, seconds, **facts))

    def _end(self, job: ServedJob, end: Callable[[], object]) -> None:
        """Record the end of an attempt, unless the job was cancelled in its last moment."""
        with suppress(LeaseLost):
            end()
        self.folder.clean(job)

    def _require_running(self, job: ServedJob) -> None:
        """Raise LeaseLost if the client has cancelled the job, and LeftRunning if the service ends."""
        self._beaten_at = time.monotonic()
        if self._stopping.is_set():
            raise LeftRunning
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        if not self.queue.is_running(job):
            raise LeaseLost


def publish_job(queue: JobQueue, folder: BatchFolder, job: ServedJob) -> None:
    """Move the files of a job that is `publishing` into their places."""
    if folder.publish(job):
        queue.finish(job)
    else:
        queue.lose(job)
    folder.clean(job)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
