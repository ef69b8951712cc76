"""The environment of one job: journal, provider, clock and polling times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .journal import Journal
from .owner_lock import OwnerLock
from .provider import Provider

__all__ = [
    "POLL_TIMES",
    "JobClock",
    "JobContext",
    "PollTimes",
    "SystemClock",
    "ignore_point",
    "transfer_limit",
]


class JobClock(Protocol):
    def now(self) -> float:
        """Return seconds since 1970. The user may set this clock to any time."""

    def elapsed(self) -> float:
        """Return seconds since some moment.

        Nobody can set this clock; it may stop while the machine sleeps.
        """

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class PollTimes:
    """How often and how long to poll, in seconds.

    first, growth, longest: the pauses between two polls.
    deadline: when to report that a job takes long, counted from the first poll of the process that ordered
              it; None for never.
    cancel_late: then also cancel it.
    look:     the longest time until a stop is noticed.
    kept:     how long the provider keeps a result after it is completed.
    missing:  how long to poll for a result that the provider must have and does not return.
    expired:  the same for a result that it need not have any more.
    silent:   how long to poll a provider that does not answer.
    grace:    instead of the last three, after a stop.
    """

    first: float = 1.0
    growth: float = 1.3
    longest: float = 5.0
    deadline: float | None = 3600.0
    cancel_late: bool = False
    look: float = 0.5
    kept: float = 3600.0
    missing: float = 300.0
    expired: float = 30.0
    silent: float = 3600.0
    grace: float = 60.0


POLL_TIMES: Mapping[str, PollTimes] = {
    # Results are kept for an hour (fal's page of queue results, 2026-11).
    "fal": PollTimes(kept=3600.0),
    # Addresses of files hold for an hour (Novita's page of task results, 2026-11).
    # 20 requests a minute (Novita's page of rate limits, 2026-11)
    "novita": PollTimes(first=3.0, longest=10.0, kept=3600.0),
}


def transfer_limit() -> asyncio.Semaphore:
    """Return the semaphore of uploads and downloads.

    Enough at once to use the connection, few enough that some finish.
    """
    return asyncio.Semaphore(4)


def ignore_point(point: str) -> None:
    """Do nothing at a point that a job passes."""
    del point


@dataclass(frozen=True)
class JobContext:
    """The environment of one job.

    transfers: limits uploads and downloads; shared by all jobs of a process.
    at:        called with the name of each point that a job passes; a test can end the process there.
    """

    journal: Journal
    owner: OwnerLock
    provider: Provider
    clock: JobClock = field(default_factory=SystemClock)
    poll_times: PollTimes = field(default_factory=PollTimes)
    transfers: asyncio.Semaphore = field(default_factory=transfer_limit)
    at: Callable[[str], None] = ignore_point
