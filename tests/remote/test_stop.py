"""A stop while something is waited for: it is ended, its end is waited for, and its error is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from wan_duet.pipelines.errors import JournalError, UnreachableError
from wan_duet.pipelines.remote.follow import pause
from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.job_record import Job, Order
from wan_duet.pipelines.remote.stop import StopAskedError, unless_stopped

LOOK = PollTimes(look=0.005)


@pytest.fixture
def job(begin: Callable[..., Job], order: Callable[..., Order]) -> Job:
    return begin(order())


def waited(work: Awaitable[Any], job: Job, context: JobContext) -> Any:
    async def run() -> Any:
        before = asyncio.all_tasks()
        try:
            return await unless_stopped(work, job, replace(context, poll_times=LOOK))
        finally:
            assert asyncio.all_tasks() == before  # nothing is left running

    return asyncio.run(run())


def test_the_value_comes_out_where_nobody_stops(job: Job, context: JobContext) -> None:
    assert waited(asyncio.sleep(0.02, "value"), job, context) == "value"


def test_an_error_comes_out_as_it_is(job: Job, context: JobContext) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.02)
        raise UnreachableError("no answer", provider="fal", money="spent")

    with pytest.raises(UnreachableError, match="no answer"):
        waited(fail(), job, context)


@pytest.mark.parametrize("turns", range(12))
def test_a_cancelled_task_ends_whenever_it_is_cancelled(turns: int, job: Job, context: JobContext) -> None:
    """At the end of what is waited for too, which Python 3.10 cannot tell from a scope that is cancelled."""

    async def looks() -> None:
        while True:
            await unless_stopped(asyncio.sleep(0), job, context)

    async def cancelled() -> None:
        task = asyncio.ensure_future(looks())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1)
        assert done, "it goes on"
        assert task.cancelled()

    asyncio.run(cancelled())


def test_a_stop_waits_until_what_it_ends_has_ended(job: Job, context: JobContext) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            context.journal.ask_to_stop(job.job_id)
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.02)  # such as the end of a connection
            ended.append("work")

    with pytest.raises(StopAskedError):
        waited(work(), job, context)
    assert ended == ["work"]


def test_the_error_of_what_a_stop_ends_is_kept(job: Job, context: JobContext) -> None:
    async def work() -> None:
        try:
            context.journal.ask_to_stop(job.job_id)
            await asyncio.Event().wait()
        finally:
            raise UnreachableError("broke while it was closed", provider="fal", money="spent")

    with pytest.raises(StopAskedError) as caught:
        waited(work(), job, context)
    assert "broke while it was closed" in str(caught.value.__cause__)


def test_a_stop_that_comes_with_the_value_counts(job: Job, context: JobContext) -> None:
    async def work() -> str:
        await asyncio.sleep(0.02)
        context.journal.ask_to_stop(job.job_id)
        return "value"

    with pytest.raises(StopAskedError):
        waited(work(), job, context)


def test_a_stop_that_was_known_before_ends_nothing(job: Job, context: JobContext) -> None:
    context.journal.ask_to_stop(job.job_id)
    known = context.journal.job(job.job_id)
    assert known.stop_asked
    assert waited(asyncio.sleep(0.03, "value"), known, context) == "value"


def test_a_journal_that_cannot_be_read_ends_the_wait_with_its_own_error(
    job: Job, context: JobContext
) -> None:
    with pytest.raises(JournalError):
        waited(asyncio.sleep(5), replace(job, job_id="unknown"), context)


def test_a_cancellation_from_outside_goes_through(job: Job, context: JobContext) -> None:
    async def run() -> None:
        ended = False

        async def work() -> None:
            nonlocal ended
            try:
                await asyncio.Event().wait()
            finally:
                ended = True

        task = asyncio.create_task(unless_stopped(work(), job, replace(context, poll_times=LOOK)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    asyncio.run(run())


@pytest.mark.parametrize(("asked", "lasts_s"), [("never", 30.0), ("before", 30.0), ("meanwhile", 1.0)])
def test_a_new_stop_ends_the_pause_between_two_looks(
    job: Job, context: JobContext, asked: str, lasts_s: float
) -> None:
    if asked != "never":
        context.journal.ask_to_stop(job.job_id)
    if asked == "before":
        job = context.journal.job(job.job_id)
    asyncio.run(pause(30.0, job, context))
    assert context.clock.elapsed() == pytest.approx(lasts_s, abs=0.5)
