"""Event loops on which time jumps to the next timer when nothing arrives."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        arrived = super().select(0.05 if timeout is None or timeout > 0 else 0)
        if not arrived and timeout is not None:
            self.now += timeout
        return arrived


def quick_loop() -> asyncio.AbstractEventLoop:
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    return loop


def on_a_quick_clock(work: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """The value of `work`, which is given the clock of its event loop."""
    loop = quick_loop()
    try:
        return loop.run_until_complete(work(loop.time))
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()
