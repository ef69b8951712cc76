"""How a call is repeated: by its policy, after the wait that is asked for, and not beyond a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from wan_duet.pipelines.errors import NotAcceptedError, RefusedError, UnreachableError
from wan_duet.pipelines.remote.attempts import CallFailedError, repeat
from wan_duet.pipelines.remote.retry import READ, SUBMIT, FailureKind, Policy, RetryRule, RetryTiming

from .clients import Waits


def failing(
    *happenings: FailureKind, retry_after_s: float | None = None
) -> tuple[Callable[[], Awaitable[str]], list[int]]:
    """A call that fails so often before it succeeds, and the numbers of its attempts."""
    made: list[int] = []

    async def once() -> str:
        made.append(len(made) + 1)
        if len(made) <= len(happenings):
            raise CallFailedError(happenings[len(made) - 1], "no luck", "fal", retry_after_s=retry_after_s)
        return "done"

    return once, made


def test_a_call_is_repeated_until_it_succeeds_and_waits_longer_each_time() -> None:
    once, made = failing("busy", "lost", "crash")
    waits = Waits()
    assert asyncio.run(repeat(once, READ, waits.timing())) == "done"
    assert (made, waits.seconds) == ([1, 2, 3, 4], [0.5, 1.0, 2.0])


def test_the_wait_that_the_provider_asks_for_is_kept() -> None:
    once, _ = failing("busy", "busy", retry_after_s=17.0)
    waits = Waits()
    asyncio.run(repeat(once, READ, waits.timing()))
    assert waits.seconds == [17.0, 17.0]


@pytest.mark.parametrize(
    ("happenings", "attempts", "error"),
    [
        (["busy"] * 9, 4, NotAcceptedError),
        (["not sent", "refused"], 2, RefusedError),
        (["refused"], 1, RefusedError),
    ],
)
def test_the_last_failure_decides_what_comes_out(
    happenings: list[FailureKind], attempts: int, error: type[Exception]
) -> None:
    once, made = failing(*happenings)
    with pytest.raises(CallFailedError) as caught:
        asyncio.run(repeat(once, SUBMIT, Waits().timing()))
    assert (made[-1], caught.value.error) == (attempts, error)


def test_no_attempt_begins_after_the_time_of_its_policy() -> None:
    once, made = failing(*["busy"] * 9, retry_after_s=40.0)
    with pytest.raises(CallFailedError):
        asyncio.run(
            repeat(once, Policy({"busy": RetryRule(9, UnreachableError)}, total_s=100.0), Waits().timing())
        )
    assert made == [1, 2, 3, 4]


@pytest.mark.parametrize("moment", ["attempt", "wait"])
def test_a_cancellation_ends_an_attempt_or_a_wait_at_once(moment: str) -> None:
    made: list[str] = []

    async def forever(name: str) -> None:
        made.append(name)
        await asyncio.Event().wait()

    async def once() -> None:
        if moment == "attempt":
            await forever("attempt")
        raise CallFailedError("busy", "no luck", "fal")

    async def run() -> None:
        task = asyncio.create_task(repeat(once, READ, RetryTiming(sleep=lambda seconds: forever("wait"))))
        while not made:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made == [moment]

    asyncio.run(run())
