"""Runs one job from order to file. It is bought at most once, always followed, and its result is kept.

Each step commits its result before the next begins, so any process can continue from the row.
"""

from __future__ import annotations

import json
import logging
import math

from ..errors import JobFailedError, JobLostError, RemoteError, UnreachableError
from .job_context import JobContext
from .job_event import OnEvent, job_event
from .job_record import Job, outcome_json
from .provider import JobStatus
from .purchase import Prepare, reconcile, submit
from .save_result import fetch
from .stop import StopAskedError, unless_stopped

__all__ = ["carry_out"]

log = logging.getLogger(__name__)

_MAY_COME_BACK_S = 300.0  # a provider that forgets what it has just shown may have trouble of its own


async def carry_out(
    job_id: str, context: JobContext, *, on_event: OnEvent, prepare: Prepare | None = None
) -> Job:
    """Run a job of the journal to its end, from any state. Return it in the state done.

    If another process works on the job, wait for its end.

    prepare: returns what to submit, for a job that was not sent yet. Without it such a job is closed, because
             its caller no longer exists.

    Raises RemoteError if there will be no file, or not without the user: JobStoppedError after a stop,
    AmbiguousError while it is unknown whether the job exists. UnreachableError leaves the job open.
    """
    claimed = await _claim(job_id, context, on_event)
    if not claimed:
        return context.journal.job(job_id).delivered()
    try:
        job = context.journal.job(job_id)
        if job.state == "intent":
            job = await submit(job, context, prepare, on_event)
        if job.state == "submitting":  # its owner died between asking and being answered
            job = context.journal.move(job_id, context.owner, "unknown")
        if job.state == "unknown":
            job = await reconcile(job, context)
        if job.state in ("submitted", "running"):
            job = await _follow(job, context, on_event)
        if job.state == "completed":
            job = await fetch(job, context, on_event)
        return job.delivered()
    finally:
        context.journal.release(job_id, context.owner)


async def _claim(job_id: str, context: JobContext, on_event: OnEvent) -> bool:
    """Wait until this process owns the job. Return False if another process closed it."""
    while not context.journal.claim(job_id, context.owner):
        job = context.journal.job(job_id)
        if not job.is_open:
            return False
        on_event(job_event(job, "waiting", context.clock.now()))
        await context.clock.sleep(context.poll_times.look)
    return True


async def _follow(job: Job, context: JobContext, on_event: OnEvent) -> Job:
    """Poll until the job is completed. Pass a stop on to the provider; keep a result that exists anyway."""
    pause, reached, cancelled = context.poll_times.first, True, False
    age = max(0.0, context.clock.now() - (job.sent_at or job.created_at))
    sent_at, stop_seen_at = context.clock.elapsed() - age, None
    seen_at = context.clock.elapsed() if job.state == "running" else -math.inf
    while True:
        job = context.journal.job(job.job_id)
        if job.stop_asked and stop_seen_at is None:
            stop_seen_at = context.clock.elapsed()
        try:
            if job.stop_asked and not cancelled:
                await _cancel(job, context)
                cancelled = True
            status = await unless_stopped(context.provider.status(job.submitted), job, context)
            context.at("status read")
            if status.state != "lost":
                seen_at = context.clock.elapsed()
            elif not job.stop_asked and context.clock.elapsed() - seen_at < _MAY_COME_BACK_S:
                raise job.as_error(UnreachableError, f"{job.provider} does not know the request any more")
            job = await _advance(job, status, context)
            if job.state == "completed":
                return job
            _tell_status(on_event, context, job, status)
            reached = True
        except StopAskedError:  # an answer may take minutes, in which the job costs more
            continue
        except UnreachableError as error:
            if reached:
                log.warning("%s; asking again until there is an answer", error)
            reached = False
        _watch_the_deadline(job, context, sent_at, stop_seen_at)
        await _pause(pause, job, context)
        pause = min(pause * context.poll_times.growth, context.poll_times.longest)


async def _advance(job: Job, status: JobStatus, context: JobContext) -> Job:
    """Poll once and return the updated job. Raises RemoteError if the job ended without a result."""
    if status.state == "running" and job.state == "submitted":
        job = context.journal.move(job.job_id, context.owner, "running")
        context.at("running written")
    if status.state in ("queued", "running"):
        return job
    if status.state == "completed":
        try:
            return await _completed(job, context)
        except (JobFailedError, JobLostError) as error:
            job = context.journal.note(job.job_id, context.owner, money=error.money)
            status = JobStatus("lost" if isinstance(error, JobLostError) else "failed", error=error.message)
    if job.stop_asked:
        stopped = "stopped" if status.error is None else f"stopped; {job.provider} says: {status.error}"
        return context.journal.move(job.job_id, context.owner, "cancelled", error=stopped).delivered()
    if status.state == "lost":
        text = status.error or f"{job.provider} no longer knows the request"
        return context.journal.move(job.job_id, context.owner, "lost", error=text).delivered()
    text = status.error or f"{job.provider} gives no reason"
    return context.journal.move(job.job_id, context.owner, "failed", error=text).delivered()


async def _completed(job: Job, context: JobContext) -> Job:
    """Write the result to disk before the file is downloaded: addresses and results expire."""
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


def _watch_the_deadline(job: Job, context: JobContext, sent_at: float, stop_seen_at: float | None) -> None:
    """Ask for a stop if the job takes too long.

    Raises UnreachableError if it is not over after the grace time.

    Both times are from `JobClock.elapsed`: setting the clock of the machine must not cancel a paid job.
    """
    deadline, now = context.poll_times.deadline, context.clock.elapsed()
    if deadline is None or now - sent_at < deadline:
        return
    if stop_seen_at is None:
        log.warning("%s took longer than %.0f minutes and is cancelled", job.request_id, deadline / 60)
        context.journal.ask_to_stop(job.job_id)
    elif now - stop_seen_at >= context.poll_times.grace:
        raise job.as_error(
            UnreachableError,
            f"not over after {deadline / 60:.0f} minutes; it is looked for again at the next start, or by "
            f"`wan-duet jobs attach {job.job_id[:8]}`",
        )


async def _pause(seconds: float, job: Job, context: JobContext) -> None:
    """Wait before the next poll. Return earlier if a stop is asked for."""
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
