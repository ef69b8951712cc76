"""Limits calls to the rate that a provider allows."""

from __future__ import annotations

import asyncio
from collections import deque

from .retry import RetryTiming

__all__ = ["RateLimit"]


class RateLimit:
    """At most `calls` within any `per_s` seconds. Later calls wait, in order."""

    def __init__(self, calls: int, per_s: float, timing: RetryTiming) -> None:
        self._calls, self._per_s, self._timing = calls, per_s, timing
        self._made: deque[float] = deque(maxlen=calls)
        self._next = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until one more call is allowed, and count it."""
        async with self._next:
            if len(self._made) == self._calls:
                wait_s = self._made[0] + self._per_s - self._timing.now()
                if wait_s > 0:
                    await self._timing.sleep(wait_s)
            self._made.append(self._timing.now())
