"""A stop of the user, seen while something else is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from .desk import Desk
from .record import Job

__all__ = ["StopAskedError", "unless_stopped"]

T = TypeVar("T")


class StopAskedError(Exception):
    """The user wants the job stopped, which was not so before."""


async def unless_stopped(work: Awaitable[T], job: Job, desk: Desk) -> T:
    """The value of `work`. Ends it and raises StopAskedError at a stop that `job` does not know of."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            # Not by the desk's clock: what is waited for takes its time outside of it.
            await asyncio.wait({task}, timeout=desk.patience.look)
            if not job.stop_asked and desk.journal.job(job.job_id).stop_asked:
                raise StopAskedError
        return task.result()
    finally:
        task.cancel()
