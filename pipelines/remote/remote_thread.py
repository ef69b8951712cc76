"""The thread of remote jobs, with its own event loop.

A host may run a graph on a loop that any synchronous node blocks, and that ends with the graph. Jobs must not
depend on such a loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import JobStoppedError, JournalError, RemoteError
from ..video.output import require_place
from .job import carry_out
from .job_context import (
    POLL_TIMES,
    JobClock,
    JobContext,
    PollTimes,
    SystemClock,
    ignore_point,
    transfer_limit,
)
from .job_event import JobEvent, OnEvent
from .job_record import Job, Order
from .journal import Journal
from .owner_lock import OwnerLock
from .provider import Provider
from .purchase import Prepare, give_up
from .spending_limits import SpendingLimits, begin_job

__all__ = ["RemoteThread", "Ticket"]

log = logging.getLogger(__name__)

_POLL_S = 0.1  # seconds between two checks for a stop


@dataclass(frozen=True)
class Ticket:
    """One caller's interest in a job. `done` holds the finished job, or the error.

    stop:     the job is cancelled once nobody waits for it any more.
    can_stop: whether the provider cancels jobs that it has accepted.
    """

    job_id: str
    done: Future[Job]
    stop: Callable[[], object]
    can_stop: bool = True

    async def wait(self, check: Callable[[], None]) -> Job:
        """Wait for the finished job, on the caller's own loop.

        check: raises if the user wants to stop. Its exception is raised at once; the job is cancelled in the
               background, and a result that exists anyway is kept.
        """
        try:
            while not self.done.done():
                check()
                await asyncio.sleep(_POLL_S)
        except BaseException:
            self.stop()
            raise
        return self.done.result()


@dataclass
class _Running:
    """A job of this process.

    waiting: its tickets; none after a restart. left: tickets that asked for a stop.
    """

    waiting: dict[Future[Job], OnEvent] = field(default_factory=dict)
    left: list[Future[Job]] = field(default_factory=list)


class RemoteThread:
    """All remote jobs of this process.

    folder:     of the journal and its locks; all processes of the user share it.
    poll_times: by the name of a provider.
    at:         as in `JobContext`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: JobClock | None = None,
        poll_times: Mapping[str, PollTimes] = POLL_TIMES,
        at: Callable[[str], None] = ignore_point,
    ) -> None:
        self._clock, self._poll_times = clock or SystemClock(), poll_times
        self.journal = Journal(folder / "jobs.sqlite", self._clock.now)
        self._owner = OwnerLock(folder / "owners")
        self._transfers, self._at = transfer_limit(), at
        self._running: dict[str, _Running] = {}
        self._tasks: dict[str, asyncio.Task[Job]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wan-duet-remote", daemon=True)
        self._thread.start()

    def buy(
        self,
        order: Order,
        provider: Provider,
        *,
        limits: SpendingLimits,
        prepare: Prepare,
        on_event: OnEvent,
        reuse: bool = True,
        resubmit: bool = False,
    ) -> Ticket:
        """Start, join or find the job of an order.

        Before anything is started, raises SpendingError, and MediaError if its output cannot be written.

        prepare and on_event are called on this thread.
        """
        require_place(order.out)
        context = self._context(provider, limits)
        job = begin_job(order, context, limits, reuse=reuse, resubmit=resubmit)
        return self._join(job.job_id, context, on_event, prepare)

    def attach(self, job_id: str, provider: Provider, on_event: OnEvent) -> Ticket:
        """Wait for a job that was started earlier, here or in another process.

        Ask once more about one that failed or was lost.
        """
        return self._join(self.journal.reopen(job_id).job_id, self._context(provider), on_event, None)

    def resume(self, providers: Iterable[Provider]) -> list[str]:
        """Continue in the background the open jobs that no living process works on. Return their ids.

        Jobs that were never sent are closed, because their callers no longer exist. Jobs in an unknown state
        are searched for until the user has been told.
        """
        by_account = {(provider.name, provider.account): provider for provider in providers}
        resumed = []
        for job in self.journal.jobs(open_only=True):
            if job.owner is not None and self._owner.is_alive(job.owner):
                continue
            if job.state == "intent":
                if self.journal.claim(job.job_id, self._owner):
                    give_up(job, self.journal, self._owner)
                continue
            if job.told and job.state == "unknown":  # it is for the user to say what becomes of it
                continue
            provider = by_account.get((job.provider, job.account))
            if provider is None:
                log.info("job %s waits for the %s key it was started with", job.job_id[:8], job.provider)
                continue
            log.info("continuing job %s at %s", job.job_id[:8], job.provider)
            self._loop.call_soon_threadsafe(self._begin, job.job_id, self._context(provider), None)
            resumed.append(job.job_id)
        return resumed

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return the value of a coroutine that needs this loop, such as a provider's `close`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Stop working on jobs. Open jobs stay in the journal for the next process."""
        self.run(self._cancel_jobs())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._owner.retire()
        self.journal.close()

    def _context(self, provider: Provider, limits: SpendingLimits | None = None) -> JobContext:
        poll_times = self._poll_times[provider.name]
        if limits is not None:
            poll_times = replace(poll_times, deadline=limits.late_after_s, cancel_late=limits.cancel_late)
        return JobContext(
            self.journal, self._owner, provider, self._clock, poll_times, self._transfers, self._at
        )

    def _join(self, job_id: str, context: JobContext, on_event: OnEvent, prepare: Prepare | None) -> Ticket:
        done: Future[Job] = Future()

        def join() -> None:
            self._begin(job_id, context, prepare).waiting[done] = on_event

        self._loop.call_soon_threadsafe(join)
        return Ticket(
            job_id,
            done,
            lambda: self._loop.call_soon_threadsafe(self._leave, job_id, done),
            context.provider.can_cancel,
        )

    # ---- on the thread

    def _begin(self, job_id: str, context: JobContext, prepare: Prepare | None) -> _Running:
        running = self._running.get(job_id)
        if running is None:
            running = self._running[job_id] = _Running()
            task = self._loop.create_task(self._carry_out(job_id, context, prepare, running))
            task.add_done_callback(lambda task: self._end(job_id, task))
            self._tasks[job_id] = task
        return running

    async def _carry_out(
        self, job_id: str, context: JobContext, prepare: Prepare | None, running: _Running
    ) -> Job:
        def send_to_all(event: JobEvent) -> None:
            for done, on_event in list(running.waiting.items()):
                if not _heard(on_event, event):
                    running.waiting[done] = _nobody

        return await carry_out(job_id, context, on_event=send_to_all, prepare=prepare)

    def _end(self, job_id: str, task: asyncio.Task[Job]) -> None:
        running = self._running.pop(job_id)
        del self._tasks[job_id]
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not running.waiting:
            _report(job_id, error)
        if isinstance(error, RemoteError) and running.waiting:
            self._note_told(job_id)
        for done in (*running.waiting, *running.left):
            if error is None:
                done.set_result(task.result())
            else:
                done.set_exception(error)

    async def _cancel_jobs(self) -> None:
        """Cancel the tasks of all jobs. Each job then ends what it has started."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _note_told(self, job_id: str) -> None:
        """Record that the user was told. If this fails, the user is told once more."""
        try:
            self.journal.note_told(job_id)
        except JournalError as error:
            log.warning("%s", error)

    def _leave(self, job_id: str, done: Future[Job]) -> None:
        running = self._running.get(job_id)
        if running is None or done not in running.waiting:
            return
        del running.waiting[done]
        running.left.append(done)
        if not running.waiting:
            self.journal.ask_to_stop(job_id)


def _report(job_id: str, error: BaseException) -> None:
    """Log the end of a job that nobody waits for."""
    if isinstance(error, (JobStoppedError, asyncio.CancelledError)):
        log.info("job %s has stopped: %s", job_id[:8], error)
    elif isinstance(error, RemoteError):
        log.warning("job %s: %s", job_id[:8], error)
    else:
        log.error("job %s has failed", job_id[:8], exc_info=error)


def _heard(on_event: OnEvent, event: JobEvent) -> bool:
    """Call the listener and return whether it works. Its own error must not end a paid job."""
    try:
        on_event(event)
    except Exception:
        log.exception("job %s: the progress can no longer be shown", event.job_id[:8])
        return False
    return True


def _nobody(event: JobEvent) -> None:
    del event
