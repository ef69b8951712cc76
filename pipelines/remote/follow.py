"""A job at the provider, until its result is known: looked at, and stopped where the user wants it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from ..errors import JobFailedError, JobLostError, RemoteError, UnreachableError
from .job_context import JobContext
from .job_event import OnEvent, job_event
from .job_record import Job, outcome_json
from .provider import JobStatus
from .stop import StopAskedError, unless_stopped
from .verdict import Absence, left_open

__all__ = ["follow", "pause"]

log = logging.getLogger(__name__)

_NOTE_EVERY_S = 60.0  # how often the journal records that the provider knows the job


async def follow(job: Job, context: JobContext, on_event: OnEvent, *, ordered_here: bool) -> Job:
    """Look at a submitted job until it is completed, and return it. Passes a stop on to the provider; what
    was finished anyway is kept.

    ordered_here: count the minutes that it takes, from now on (`PollTimes.deadline`).

    Raises what `verdict` makes of a look without a result: JobFailedError, JobLostError or JobStoppedError
    for a job that is closed, another RemoteError for one that stays open.
    """
    seconds, cancelled, absence = context.poll_times.first, False, Absence(context)
    deadline = _Deadline(context, context.clock.elapsed()) if ordered_here else None
    while True:
        job = context.journal.job(job.job_id)
        try:
            if job.stop_asked and not cancelled:
                await _cancel(job, context)
                cancelled = True
            status = await unless_stopped(context.provider.status(job.submitted), job, context)
            context.at("status read")
            job = await _advance(_note_known(job, status, context, absence), status, context)
            if job.state == "completed":
                return job
            absence.end()
            _tell_status(on_event, context, job, status)
        except StopAskedError:  # an answer may take minutes, in which the job costs more
            continue
        except RemoteError as error:
            _require_patience(job, error, context, absence)
        if deadline is not None:
            deadline.watch(job, on_event)
        await pause(seconds, job, context)
        seconds = min(seconds * context.poll_times.growth, context.poll_times.longest)


def _note_known(job: Job, status: JobStatus, context: JobContext, absence: Absence) -> Job:
    """Since when the provider may forget the job: since it was last seen under way, or first completed."""
    if status.state in ("lost", "failed") or job.completed_at is not None:
        return job
    now = context.clock.now()
    absence.see()
    if status.state == "completed":
        return context.journal.note(job.job_id, context.owner, completed_at=now)
    if job.known_at is None or abs(now - job.known_at) >= _NOTE_EVERY_S:
        return context.journal.note(job.job_id, context.owner, known_at=now)
    return job


async def _advance(job: Job, status: JobStatus, context: JobContext) -> Job:
    """The job after a look at it. Raises RemoteError for what came instead of a result."""
    if status.state == "running" and job.state == "submitted":
        job = context.journal.move(job.job_id, context.owner, "running")
        context.at("running written")
    if status.state in ("queued", "running"):
        return job
    if status.state == "completed":
        return await _completed(job, context)
    if status.state == "lost":
        raise job.as_error(JobLostError, status.error or f"{job.provider} does not know the request")
    raise job.as_error(JobFailedError, status.error or f"{job.provider} gives no reason")


async def _completed(job: Job, context: JobContext) -> Job:
    """Its result is on disk before the file is asked for: addresses and results expire."""
    outcome = await context.provider.result(job.submitted)
    context.at("result read")
    if not outcome.files:
        raise job.as_error(JobFailedError, f"the result names no file: {json.dumps(outcome.raw)[:300]}")
    job = context.journal.move(
        job.job_id,
        context.owner,
        "completed",
        outcome_json=outcome_json(outcome),
        money="spent",
        charged=outcome.charged,
    )
    context.at("completed written")
    return job


def _require_patience(job: Job, error: RemoteError, context: JobContext, absence: Absence) -> None:
    """Return to look again; raise when that is over."""
    first = absence.began is None
    verdict = absence.verdict(job, error)
    if verdict == "look again":
        if first:
            log.warning("%s; asking again", error)
        return
    if verdict == "leave open":
        raise left_open(job, error) from None
    text = error.message
    if verdict == "cancelled":
        text = f"stopped; {job.provider} says: {text}"
    elif verdict == "lost":
        text = (
            f"{text}, and keeps results for {context.poll_times.kept / 60:.0f} minutes. Look for request "
            f"{job.request_id} on {job.provider}'s site; `wan-duet jobs attach {job.job_id[:8]}` asks again"
        )
    job = context.journal.note(job.job_id, context.owner, money=error.money)
    context.journal.move(job.job_id, context.owner, verdict, error=text).delivered()


async def _cancel(job: Job, context: JobContext) -> None:
    try:
        answer = await context.provider.cancel(job.submitted)
    except UnreachableError:
        raise
    except RemoteError as error:
        log.warning("%s", error)
        answer = "not offered"
    context.at("cancel answered")
    if answer == "not offered":  # then it runs on, and the same order is this job again
        context.journal.note(job.job_id, context.owner, stop_asked=False)
        log.info("%s does not cancel; the result of %s is kept", job.provider, job.request_id)
    else:
        log.info("cancel of %s at %s: %s", job.request_id, job.provider, answer)


@dataclass
class _Deadline:
    """Tells the user, once, that a job takes long; cancels it only where the user has set that.

    began: by `JobClock.elapsed`: a clock that is put right must not cancel what is paid for.
    """

    context: JobContext
    began: float
    told: bool = False

    def watch(self, job: Job, on_event: OnEvent) -> None:
        times = self.context.poll_times
        if self.told or times.deadline is None or self.context.clock.elapsed() - self.began < times.deadline:
            return
        self.told = True
        minutes = f"{times.deadline / 60:.0f} minutes"
        if times.cancel_late:
            log.warning("%s took longer than %s and is cancelled", job.request_id, minutes)
            self.context.journal.ask_to_stop(job.job_id)
            return
        text = f"takes longer than {minutes}; it goes on at {job.provider} and is billed, unless you stop it"
        log.warning("%s %s", job.request_id, text)
        on_event(job_event(job, "running", self.context.clock.now(), log_line=text))


async def pause(seconds: float, job: Job, context: JobContext) -> None:
    """Wait; shorter when a stop is asked for meanwhile."""
    end = context.clock.elapsed() + seconds
    while (left := end - context.clock.elapsed()) > 0:
        await context.clock.sleep(min(left, context.poll_times.look))
        if not job.stop_asked and context.journal.job(job.job_id).stop_asked:
            return


def _tell_status(on_event: OnEvent, context: JobContext, job: Job, status: JobStatus) -> None:
    event = job_event(
        job,
        "stopping" if job.stop_asked else status.state,
        context.clock.now(),
        queue_position=status.queue_position,
        percent=status.percent,
        eta_s=status.eta_s,
        log_line=status.log_lines[-1] if status.log_lines else None,
    )
    on_event(event)
