"""What one job needs around it: the journal, a provider, a clock, and how patient to be."""

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
        """Seconds since 1970, as far as this machine knows: somebody may set it, to any other time."""

    def elapsed(self) -> float:
        """Seconds since some moment. Nobody can set it; a machine that sleeps may leave that out."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The time of this machine."""

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class PollTimes:
    """How often to ask, and for how long. In seconds.

    first, growth, longest: the pauses between two looks at a job.
    deadline: a job that takes longer, counted from its submit, is cancelled; None waits for ever.
    grace:    how long to wait beyond the deadline for the provider to say that it is over.
    look:     the most that a stop has to wait before it is seen.
    """

    first: float = 1.0
    growth: float = 1.3
    longest: float = 5.0
    deadline: float | None = 3600.0
    grace: float = 60.0
    look: float = 0.5


POLL_TIMES: Mapping[str, PollTimes] = {
    "fal": PollTimes(),
    # 20 requests a minute (Novita's page of rate limits, 2026-11)
    "novita": PollTimes(first=3.0, longest=10.0),
}


def transfer_limit() -> asyncio.Semaphore:
    """What uploads and downloads wait for: enough at once to fill a line, few enough to finish some."""
    return asyncio.Semaphore(4)


def ignore_point(point: str) -> None:
    """What happens at a point that a job passes: nothing."""
    del point


@dataclass(frozen=True)
class JobContext:
    """transfers: shared by all jobs of a process.
    at:        called with the name of each point that a job passes; lets a test end the process there.
    """

    journal: Journal
    owner: OwnerLock
    provider: Provider
    clock: JobClock = field(default_factory=SystemClock)
    poll_times: PollTimes = field(default_factory=PollTimes)
    transfers: asyncio.Semaphore = field(default_factory=transfer_limit)
    at: Callable[[str], None] = ignore_point
