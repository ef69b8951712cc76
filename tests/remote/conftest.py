"""A journal in a folder of the test, and a clock that waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.job_record import Job, Order
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.request.prices import Price

from .workshop import Workshop

CENTS_FIVE = Price(0.05, 0.04, 0.06, "video seconds", "a page", "2026-08")


class FastClock:
    """Time passes when somebody sleeps, at once. time: what the clock shows, which a test may set.

    at_sleep: called with the number of each sleep, the first being 1.
    """

    def __init__(self) -> None:
        self.time, self.slept, self.sleeps = 1_800_000_000.0, 0.0, 0
        self.at_sleep: Callable[[int], None] = lambda number: None

    def now(self) -> float:
        return self.time

    def elapsed(self) -> float:
        return self.slept

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept += seconds
        self.sleeps += 1
        self.at_sleep(self.sleeps)
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[OwnerLock]:
    made = OwnerLock(tmp_path / "owners")
    yield made
    made.retire()


@pytest.fixture
def journal(tmp_path: Path, clock: FastClock) -> Iterator[Journal]:
    made = Journal(tmp_path / "jobs.sqlite", clock.now)
    yield made
    made.close()


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def context(journal: Journal, owner: OwnerLock, workshop: Workshop, clock: FastClock) -> JobContext:
    return JobContext(journal, owner, workshop, clock, PollTimes(deadline=600.0))


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    def make(prompt: str = "a red ball", price: Price = CENTS_FIVE, **payload: Any) -> Order:
        return Order(
            provider="fal",
            endpoint="fal-ai/wan/v2.2-a14b/text-to-video",
            payload={"prompt": prompt, "seed": 7, **payload},
            out=tmp_path / "out" / "film.mp4",
            price=price,
            about={"kind": "text-to-video", "request": {"prompt": prompt}, "adjustments": []},
        )

    return make


@pytest.fixture
def begin(journal: Journal, owner: OwnerLock) -> Callable[..., Job]:
    """A row for an order, with nobody minding the money."""

    def begin(order: Order, account: str = "0badcafe", **choices: Any) -> Job:
        defaults: dict[str, Any] = {
            "reuse": True,
            "resubmit": False,
            "allow": lambda spent: None,
            "since": 0.0,
        }
        return journal.begin(order, account, owner, **{**defaults, **choices})

    return begin
