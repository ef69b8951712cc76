"""One job from the wish to the file: bought at most once, never left alone, its result kept.

Each step commits what it knows before the next one begins, so that any process can go on from the row.
"""

from __future__ import annotations

import json
import logging
import math

from ..errors import JobFailedError, JobLostError, RemoteError, UnreachableError
from .delivery import fetch
from .desk import Desk
from .news import Tell, news_of
from .provider import Status
from .purchase import Prepare, reconcile, submit
from .record import Job, outcome_json
from .stop import StopAskedError, unless_stopped

__all__ = ["carry_out"]

log = logging.getLogger(__name__)

_MAY_COME_BACK_S = 300.0  # a provider that forgets what it has just shown may have trouble of its own


async def carry_out(job_id: str, desk: Desk, *, tell: Tell, prepare: Prepare | None = None) -> Job:
    """Bring a job of the journal to its end, from wherever it is, and return it done.

    While another process works on the job, waits for what becomes of it.

    prepare: for a job that was not sent yet. Without it such a job is closed: nobody is there any more who
             wanted it.

    Raises RemoteError when there will be no file, or not without the user: JobStoppedError after a stop,
    AmbiguousError while nobody knows whether the job exists. UnreachableError leaves the job open.
    """
    claimed = await _claim(job_id, desk, tell)
    if not claimed:
        return desk.journal.job(job_id).delivered()
    try:
        job = desk.journal.job(job_id)
        if job.state == "intent":
            job = await submit(job, desk, prepare, tell)
        if job.state == "submitting":  # its owner died between asking and being answered
            job = desk.journal.move(job_id, desk.owner, "unknown")
        if job.state == "unknown":
            job = await reconcile(job, desk)
        if job.state in ("submitted", "running"):
            job = await _follow(job, desk, tell)
        if job.state == "completed":
            job = await fetch(job, desk, tell)
        return job.delivered()
    finally:
        desk.journal.release(job_id, desk.owner)


async def _claim(job_id: str, desk: Desk, tell: Tell) -> bool:
    """False when the job was closed by another process."""
    while not desk.journal.claim(job_id, desk.owner):
        job = desk.journal.job(job_id)
        if not job.is_open:
            return False
        tell(news_of(job, "waiting", desk.clock.now()))
        await desk.clock.sleep(desk.patience.look)
    return True


async def _follow(job: Job, desk: Desk, tell: Tell) -> Job:
    """Until the job is completed. Passes a stop on to the provider; what was finished anyway is kept."""
    pause, reached, cancelled = desk.patience.first, True, False
    age = max(0.0, desk.clock.now() - (job.sent_at or job.created_at))
    sent_at, stop_seen_at = desk.clock.elapsed() - age, None
    seen_at = desk.clock.elapsed() if job.state == "running" else -math.inf
    while True:
        job = desk.journal.job(job.job_id)
        if job.stop_asked and stop_seen_at is None:
            stop_seen_at = desk.clock.elapsed()
        try:
            if job.stop_asked and not cancelled:
                await _cancel(job, desk)
                cancelled = True
            status = await unless_stopped(desk.provider.status(job.submitted), job, desk)
            desk.at("status read")
            if status.state != "lost":
                seen_at = desk.clock.elapsed()
            elif not job.stop_asked and desk.clock.elapsed() - seen_at < _MAY_COME_BACK_S:
                raise job.as_error(UnreachableError, f"{job.provider} does not know the request any more")
            job = await _advance(job, status, desk)
            if job.state == "completed":
                return job
            _tell_status(tell, desk, job, status)
            reached = True
        except StopAskedError:  # an answer may take minutes, in which the job costs more
            continue
        except UnreachableError as error:
            if reached:
                log.warning("%s; asking again until there is an answer", error)
            reached = False
        _watch_the_deadline(job, desk, sent_at, stop_seen_at)
        await _pause(pause, job, desk)
        pause = min(pause * desk.patience.growth, desk.patience.longest)


async def _advance(job: Job, status: Status, desk: Desk) -> Job:
    """The job after a look at it. Raises RemoteError when it is over without a result."""
    if status.state == "running" and job.state == "submitted":
        job = desk.journal.move(job.job_id, desk.owner, "running")
        desk.at("running written")
    if status.state in ("queued", "running"):
        return job
    if status.state == "completed":
        try:
            return await _completed(job, desk)
        except (JobFailedError, JobLostError) as error:
            job = desk.journal.note(job.job_id, desk.owner, money=error.money)
            status = Status("lost" if isinstance(error, JobLostError) else "failed", error=error.message)
    if job.stop_asked:
        stopped = "stopped" if status.error is None else f"stopped; {job.provider} says: {status.error}"
        return desk.journal.move(job.job_id, desk.owner, "cancelled", error=stopped).delivered()
    if status.state == "lost":
        text = status.error or f"{job.provider} no longer knows the request"
        return desk.journal.move(job.job_id, desk.owner, "lost", error=text).delivered()
    text = status.error or f"{job.provider} gives no reason"
    return desk.journal.move(job.job_id, desk.owner, "failed", error=text).delivered()


async def _completed(job: Job, desk: Desk) -> Job:
    """Its result is on disk before the file is asked for: addresses and results expire."""
    outcome = await desk.provider.result(job.submitted)
    desk.at("result read")
    if not outcome.files:
        raise job.as_error(JobFailedError, f"the result names no file: {json.dumps(outcome.raw)[:300]}")
    job = desk.journal.move(
        job.job_id,
        desk.owner,
        "completed",
        outcome_json=outcome_json(outcome),
        money="spent",
        charged=outcome.charged,
    )
    desk.at("completed written")
    return job


async def _cancel(job: Job, desk: Desk) -> None:
    try:
        answer = await desk.provider.cancel(job.submitted)
    except UnreachableError:
        raise
    except RemoteError as error:
        log.warning("%s", error)
        answer = "not offered"
    desk.at("cancel answered")
    if answer == "not offered":  # then it runs on, and the same order is this job again
        desk.journal.note(job.job_id, desk.owner, stop_asked=False)
        log.info("%s does not cancel; the result of %s is kept", job.provider, job.request_id)
    else:
        log.info("cancel of %s at %s: %s", job.request_id, job.provider, answer)


def _watch_the_deadline(job: Job, desk: Desk, sent_at: float, stop_seen_at: float | None) -> None:
    """Ask for a stop when the job takes too long; raise UnreachableError when even that leads nowhere.

    Both moments are of `JobClock.elapsed`: a clock that is put right must not cancel what is paid for.
    """
    deadline, now = desk.patience.deadline, desk.clock.elapsed()
    if deadline is None or now - sent_at < deadline:
        return
    if stop_seen_at is None:
        log.warning("%s took longer than %.0f minutes and is cancelled", job.request_id, deadline / 60)
        desk.journal.ask_to_stop(job.job_id)
    elif now - stop_seen_at >= desk.patience.grace:
        raise job.as_error(
            UnreachableError,
            f"not over after {deadline / 60:.0f} minutes; it is looked for again at the next start, or by "
            f"`wan-duet jobs attach {job.job_id[:8]}`",
        )


async def _pause(seconds: float, job: Job, desk: Desk) -> None:
    """Shorter when a stop is asked for meanwhile."""
    end = desk.clock.elapsed() + seconds
    while (left := end - desk.clock.elapsed()) > 0:
        await desk.clock.sleep(min(left, desk.patience.look))
        if not job.stop_asked and desk.journal.job(job.job_id).stop_asked:
            return


def _tell_status(tell: Tell, desk: Desk, job: Job, status: Status) -> None:
    news = news_of(
        job,
        "stopping" if job.stop_asked else status.state,
        desk.clock.now(),
        queue_position=status.queue_position,
        percent=status.percent,
        eta_s=status.eta_s,
        log_line=status.log_lines[-1] if status.log_lines else None,
    )
    tell(news)
