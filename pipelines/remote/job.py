"""Runs one job from order to file. It is bought at most once, always followed, and its result is kept.

Each step commits its result before the next begins, so any process can continue from the row.
"""

from __future__ import annotations

from .follow import follow
from .job_context import JobContext
from .job_event import OnEvent, job_event
from .job_record import Job
from .purchase import Prepare, reconcile, submit
from .save_result import fetch

__all__ = ["carry_out"]


async def carry_out(
    job_id: str, context: JobContext, *, on_event: OnEvent, prepare: Prepare | None = None
) -> Job:
    """Run a job of the journal to its end, from any state. Return it in the state done.

    If another process works on the job, wait for its end.

    prepare: returns what to submit, for a job that was not sent yet. Without it such a job is closed, because
             its caller no longer exists; nor is the time counted that a running job takes.

    Raises RemoteError if there will be no file, or not without the user: JobStoppedError after a stop,
    AmbiguousError while it is unknown whether the job exists. The job stays open unless it is a
    JobFailedError, JobLostError or JobStoppedError.
    """
    claimed = await _claim(job_id, context, on_event)
    if not claimed:
        return context.journal.job(job_id).delivered()
    try:
        job, seen = context.journal.job(job_id), None
        if job.state == "intent":
            job = await submit(job, context, prepare, on_event)
        if job.state == "submitting":  # its owner died between asking and being answered
            job = context.journal.move(job_id, context.owner, "unknown")
        if job.state == "unknown":
            job = await reconcile(job, context)
        if job.state in ("submitted", "running"):
            job = await follow(job, context, on_event, ordered_here=prepare is not None)
            seen = context.clock.elapsed()
        if job.state == "completed":
            job = await fetch(job, context, on_event, seen)
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
