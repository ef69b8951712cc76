"""Submits a job: the one step that costs money, done once."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from ..errors import (
    AmbiguousError,
    JobStoppedError,
    JournalError,
    NotAcceptedError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from .job_context import JobContext
from .job_event import OnEvent, job_event
from .job_record import Job
from .journal import Journal
from .owner_lock import OwnerLock
from .provider import Payload, Submitted
from .stop import StopAskedError, unless_stopped
from .stored_form import stored_form

__all__ = ["Prepare", "give_up", "reconcile", "submit"]

log = logging.getLogger(__name__)

Prepare = Callable[[], Awaitable[Payload]]  # uploads what has to be, and gives the payload as it is sent


async def submit(job: Job, context: JobContext, prepare: Prepare | None, on_event: OnEvent) -> Job:
    """Move a job from intent to submitted, or to unknown if the answer is lost.

    prepare: returns what to submit. Without it the job is closed, because its caller no longer exists.
    """
    journal, owner = context.journal, context.owner
    if prepare is None:
        return give_up(job, journal, owner)
    context.at("intent written")
    on_event(job_event(job, "preparing", context.clock.now()))
    payload = await _prepared(job, context, prepare)
    context.at("uploaded")
    try:
        job = journal.move(
            job.job_id,
            owner,
            "submitting",
            sent_at=context.clock.now(),
            sent_json=json.dumps(stored_form(payload), ensure_ascii=False),
            money="may have been spent",
        )
    except JournalError as error:
        raise JournalError(f"{error}; nothing was bought") from error
    context.at("submitting written")
    on_event(job_event(job, "sending", context.clock.now()))
    try:
        ids = await context.provider.submit(job.endpoint, payload, job_id=job.job_id)
    except (NotAcceptedError, RefusedError) as error:
        journal.move(job.job_id, owner, "failed", money="none spent", error=error.message)
        raise
    except AmbiguousError as error:
        log.warning("%s; looking for the job", error)
        return journal.move(job.job_id, owner, "unknown", error=error.message)
    except BaseException:  # a fault of ours, or the end of the program: the request may be on its way
        journal.move(job.job_id, owner, "unknown")
        raise
    # First of all to the console: should the disk be full, it is all that is left to find the job by.
    log.info("%s has taken request %s (%s)", job.provider, ids.request_id, job.price_text)
    context.at("answered")
    try:
        job = journal.submitted(job.job_id, owner, ids)
    except JournalError as error:
        raise JournalError(
            f"{error}. {job.provider} has taken request {ids.request_id} ({job.price_text}), and the journal "
            "does not know its name. Once it can be written, the same request looks for it and buys nothing"
        ) from error
    context.at("submitted written")
    return job


def give_up(job: Job, journal: Journal, owner: OwnerLock) -> Job:
    """Close a job that was never sent, because its caller no longer exists."""
    return journal.move(job.job_id, owner, "failed", error="the process ended before anything was sent")


async def _prepared(job: Job, context: JobContext, prepare: Prepare) -> Payload:
    """Return the payload to send. Closes the job if that fails, or if the user stops it."""

    async def upload() -> Payload:
        async with context.transfers:
            return await prepare()

    try:
        # A stop that was asked for already counts as well.
        return await unless_stopped(upload(), replace(job, stop_asked=False), context)
    except StopAskedError:
        context.journal.move(job.job_id, context.owner, "cancelled", error="stopped before anything was sent")
        raise job.as_error(JobStoppedError, "stopped before anything was sent") from None
    except BaseException as error:
        text = error.message if isinstance(error, RemoteError) else str(error) or type(error).__name__
        context.journal.move(job.job_id, context.owner, "failed", error=text)
        raise


async def reconcile(job: Job, context: JobContext) -> Job:
    """Find the job whose submit answer was lost. It is never submitted again without the user.

    Raises AmbiguousError if it is not found. Whoever shows this error records it with `Journal.note_told`.
    """
    sent: dict[str, Any] = json.loads(job.sent_json or "null")
    found: Submitted | str | None
    try:
        found = await context.provider.reconcile(job.endpoint, sent, job.sent_at or job.created_at)
    except UnreachableError as error:
        log.warning("%s", error)
        found = "cannot tell"
    if isinstance(found, Submitted) and context.journal.has_request(job.provider, found.request_id):
        found = "cannot tell"  # it is another job of ours, with the same payload
    if isinstance(found, Submitted):
        log.info("%s has the request after all: %s", job.provider, found.request_id)
        return context.journal.submitted(job.job_id, context.owner, found)
    cost = "an unknown amount" if job.price_high is None else f"up to ${job.price_high:.2f}"
    chance = (
        f"{job.provider} lists no such request, or not yet, which may have been charged {cost}"
        if found is None
        else f"{job.provider} cannot say whether it took the request, which may have been charged {cost}"
    )
    raise AmbiguousError(
        f"the answer to the submit of job {job.job_id[:8]} was lost; {chance}. Look at the list on "
        f"{job.provider}'s site; to run it again, turn `resubmit` on (on the command line: --resubmit)",
        provider=job.provider,
    )
