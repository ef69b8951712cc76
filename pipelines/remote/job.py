"""One job from the wish to the file: bought at most once, never left alone, its result kept.

Each step commits what it knows before the next one begins, so that any process can go on from the row.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from ..errors import (
    AmbiguousError,
    JobFailedError,
    JobLostError,
    JobStoppedError,
    NotAcceptedError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from .delivery import fetch
from .desk import Desk
from .news import News, Tell
from .provider import Payload, Status, Submitted
from .record import Job, State, outcome_json
from .written import written_form

__all__ = ["Prepare", "carry_out"]

log = logging.getLogger(__name__)

Prepare = Callable[[], Awaitable[Payload]]  # uploads what has to be, and gives the payload as it is sent
T = TypeVar("T")


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
        return _finished(desk.journal.job(job_id))
    try:
        job = desk.journal.job(job_id)
        if job.state == "intent":
            job = await _submit(job, desk, prepare, tell)
        if job.state == "submitting":  # its owner died between asking and being answered
            job = desk.journal.move(job_id, desk.owner, "unknown")
        if job.state == "unknown":
            job = await _reconcile(job, desk)
        if job.state in ("submitted", "running"):
            job = await _follow(job, desk, tell)
        if job.state == "completed":
            job = await fetch(job, desk, partial(_tell, tell, desk))
        return _finished(job)
    finally:
        desk.journal.release(job_id, desk.owner)


async def _claim(job_id: str, desk: Desk, tell: Tell) -> bool:
    """False when the job was closed by another process."""
    while not desk.journal.claim(job_id, desk.owner):
        job = desk.journal.job(job_id)
        if not job.is_open:
            return False
        _tell(tell, desk, job, "waiting")
        await desk.clock.sleep(desk.patience.look)
    return True


def _finished(job: Job) -> Job:
    """The job if it is done, else what became of it as an error."""
    if job.state == "done":
        return job
    kinds = {"cancelled": JobStoppedError, "lost": JobLostError}
    kind = kinds.get(job.state, JobFailedError)
    raise _error(kind, job, job.error or f"the job is {job.state}")


# ---- asking for it


async def _submit(job: Job, desk: Desk, prepare: Prepare | None, tell: Tell) -> Job:
    journal, owner = desk.journal, desk.owner
    if prepare is None:
        return journal.move(job.job_id, owner, "failed", error="the process ended before anything was sent")
    desk.at("intent written")
    try:
        _tell(tell, desk, job, "uploading")
        async with desk.transfers:
            payload = await _unless_stopped(prepare(), job, desk)
    except BaseException as error:
        state: State = "cancelled" if isinstance(error, JobStoppedError) else "failed"
        journal.move(job.job_id, owner, state, error=_text(error), error_type=type(error).__name__)
        raise
    desk.at("uploaded")
    job = journal.move(
        job.job_id,
        owner,
        "submitting",
        sent_at=desk.clock.now(),
        sent_json=json.dumps(written_form(payload), ensure_ascii=False),
        money="may have been spent",
    )
    desk.at("submitting written")
    _tell(tell, desk, job, "sending")
    try:
        ids = await desk.provider.submit(job.endpoint, payload, job_id=job.job_id)
    except (NotAcceptedError, RefusedError) as error:
        closed = {"error": error.message, "error_type": type(error).__name__}
        journal.move(job.job_id, owner, "failed", money="none spent", **closed)
        raise
    except AmbiguousError as error:
        log.warning("%s; looking for the job", error)
        return journal.move(job.job_id, owner, "unknown", error=error.message)
    except BaseException:  # a fault of ours, or the end of the program: the request may be on its way
        journal.move(job.job_id, owner, "unknown")
        raise
    desk.at("answered")
    job = journal.submitted(job.job_id, owner, ids)
    desk.at("submitted written")
    log.info("%s has taken request %s (%s)", job.provider, job.request_id, job.price_text)
    return job


async def _reconcile(job: Job, desk: Desk) -> Job:
    """Find the job of a lost answer. It is never asked for again without the user."""
    sent: dict[str, Any] = json.loads(job.sent_json or "null")
    found = await desk.provider.reconcile(job.endpoint, sent, job.sent_at or job.created_at)
    if isinstance(found, Submitted) and desk.journal.has_request(job.provider, found.request_id):
        found = "cannot tell"  # it is another job of ours, with the same payload
    if isinstance(found, Submitted):
        log.info("%s has the request after all: %s", job.provider, found.request_id)
        return desk.journal.submitted(job.job_id, desk.owner, found)
    cost = "an unknown amount" if job.price_high is None else f"up to ${job.price_high:.2f}"
    chance = (
        f"{job.provider} lists no such request, so most likely nothing was charged"
        if found is None
        else f"{job.provider} cannot say whether it took the request, which may have been charged {cost}"
    )
    raise AmbiguousError(
        f"the answer to the submit of job {job.job_id[:8]} was lost; {chance}. Look at the list on "
        f"{job.provider}'s site, and turn resubmit on to run it again",
        provider=job.provider,
    )


# ---- waiting for it


async def _follow(job: Job, desk: Desk, tell: Tell) -> Job:
    """Until the job is completed. Passes a stop on to the provider; what was finished anyway is kept."""
    pause, reached, cancelled = desk.patience.first, True, False
    stop_seen_at: float | None = None
    while True:
        job = desk.journal.job(job.job_id)
        if job.stop_asked and stop_seen_at is None:
            stop_seen_at = desk.clock.now()
        try:
            if job.stop_asked and not cancelled:
                await _cancel(job, desk)
                cancelled = True
            status = await desk.provider.status(job.submitted)
            desk.at("status read")
            job = await _advance(job, status, desk)
            if job.state == "completed":
                return job
            _tell_status(tell, desk, job, status)
            reached = True
        except UnreachableError as error:
            if reached:
                log.warning("%s; asking again until there is an answer", error)
            reached = False
        _watch_the_deadline(job, desk, stop_seen_at)
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
            status = Status("lost" if isinstance(error, JobLostError) else "failed", error=error.message)
    if job.stop_asked:
        stopped = "stopped" if status.error is None else f"stopped ({status.error})"
        return _finished(desk.journal.move(job.job_id, desk.owner, "cancelled", error=stopped))
    if status.state == "lost":
        text = status.error or f"{job.provider} no longer knows the request"
        return _finished(desk.journal.move(job.job_id, desk.owner, "lost", error=text))
    text = status.error or f"{job.provider} gives no reason"
    return _finished(desk.journal.move(job.job_id, desk.owner, "failed", error=text))


async def _completed(job: Job, desk: Desk) -> Job:
    """Its result is on disk before the file is asked for: addresses and results expire."""
    outcome = await desk.provider.result(job.submitted)
    desk.at("result read")
    if not outcome.files:
        raise _error(JobFailedError, job, f"the result names no file: {json.dumps(outcome.raw)[:300]}")
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
    answer = await desk.provider.cancel(job.submitted)
    desk.at("cancel answered")
    if answer == "not offered":  # then it runs on, and the same order is this job again
        desk.journal.note(job.job_id, desk.owner, stop_asked=False)
        log.info("%s cannot cancel; the result of %s is kept", job.provider, job.request_id)
    else:
        log.info("cancel of %s at %s: %s", job.request_id, job.provider, answer)


def _watch_the_deadline(job: Job, desk: Desk, stop_seen_at: float | None) -> None:
    """Ask for a stop when the job takes too long; raise UnreachableError when even that leads nowhere."""
    deadline, now = desk.patience.deadline, desk.clock.now()
    if deadline is None or now - (job.sent_at or job.created_at) < deadline:
        return
    if stop_seen_at is None:
        log.warning("%s took longer than %.0f minutes and is cancelled", job.request_id, deadline / 60)
        desk.journal.ask_to_stop(job.job_id)
    elif now - stop_seen_at >= desk.patience.grace:
        raise _error(
            UnreachableError,
            job,
            f"not over after {deadline / 60:.0f} minutes; it is looked for again at the next start, or by "
            f"`wan-duet jobs attach {job.job_id[:8]}`",
        )


async def _pause(seconds: float, job: Job, desk: Desk) -> None:
    """Shorter when a stop is asked for meanwhile."""
    end = desk.clock.now() + seconds
    while (left := end - desk.clock.now()) > 0:
        await desk.clock.sleep(min(left, desk.patience.look))
        if not job.stop_asked and desk.journal.job(job.job_id).stop_asked:
            return


async def _unless_stopped(work: Awaitable[T], job: Job, desk: Desk) -> T:
    """The value of `work`. Ends it and raises JobStoppedError at a stop."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            watch = asyncio.ensure_future(desk.clock.sleep(desk.patience.look))
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            watch.cancel()
            if desk.journal.job(job.job_id).stop_asked:
                raise _error(JobStoppedError, job, "stopped before anything was sent")
        return task.result()
    finally:
        task.cancel()


# ---- words


def _error(kind: Callable[..., RemoteError], job: Job, message: str) -> RemoteError:
    return kind(message, provider=job.provider, money=job.money, request_id=job.request_id)


def _text(error: BaseException) -> str:
    return error.message if isinstance(error, RemoteError) else str(error) or type(error).__name__


def _tell_status(tell: Tell, desk: Desk, job: Job, status: Status) -> None:
    _tell(
        tell,
        desk,
        job,
        "stopping" if job.stop_asked else status.state,
        queue_position=status.queue_position,
        percent=status.percent,
        eta_s=status.eta_s,
        log_line=status.log_lines[-1] if status.log_lines else None,
    )


def _tell(tell: Tell, desk: Desk, job: Job, step: str, **more: Any) -> None:
    price = "price unknown" if job.price_usd is None else job.price_text.partition(" (")[0]
    since = job.sent_at or job.created_at
    news = News(job.job_id, step, max(0.0, desk.clock.now() - since), price)
    tell(replace(news, **more))
