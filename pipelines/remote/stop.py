"""Notices a stop of the user while something else is awaited."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import anyio

from ..errors import JournalError
from .job_context import JobContext
from .job_record import Job

__all__ = ["StopAskedError", "unless_stopped"]

T = TypeVar("T")


class StopAskedError(Exception):
    """The user asked to stop the job."""


async def unless_stopped(work: Awaitable[T], job: Job, context: JobContext) -> T:
    """Return the value of `work`.

    If the user stops the job meanwhile, cancel `work` and raise StopAskedError.

    `work` has ended when this raises. An error that it ended with is the cause of the StopAskedError.
    """
    values: list[T] = []
    errors: list[Exception] = []  # collected, as a task group wraps what it raises
    working, ended = anyio.CancelScope(), anyio.Event()

    async def watch() -> None:
        try:
            while not _is_new_stop(job, context):
                # Not by the context's clock: what is waited for takes its time outside of it.
                with anyio.move_on_after(context.poll_times.look):
                    await ended.wait()
                    return
        except JournalError as error:
            errors.append(error)
        working.cancel()

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        with working:
            try:
                values.append(await work)
            except Exception as error:
                errors.append(error)
        ended.set()  # to cancel the watch would swallow a cancellation of this task, on Python 3.10
    failure = errors[0] if errors else None
    if isinstance(failure, JournalError):
        raise failure
    if working.cancel_called or _is_new_stop(job, context):
        raise StopAskedError from failure
    if failure is not None:
        raise failure
    return values[0]


def _is_new_stop(job: Job, context: JobContext) -> bool:
    return not job.stop_asked and context.journal.job(job.job_id).stop_asked
