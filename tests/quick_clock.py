"""Event loops on which time jumps to the next timer when nothing arrives."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.now, self._patience_s = 0.0, patience_s

    def select(self, timeout: float | None = None) -> list[Any]:
        arrived = super().select(self._patience_s if timeout is None or timeout > 0 else 0)
        if not arrived and timeout is not None:
            self.now += timeout
        return arrived


def quick_loop(patience_s: float = 0.5) -> asyncio.AbstractEventLoop:
    """patience_s: how long nothing arrives before time jumps. Too short, and a busy machine seems silent."""
    selector = _Selector(patience_s)
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    return loop


def on_a_quick_clock(
    work: Callable[[Callable[[], float]], Coroutine[Any, Any, T]], patience_s: float = 0.05
) -> T:
    """The value of `work`, which is given the clock of its event loop."""
    loop = quick_loop(patience_s)
    try:
        return loop.run_until_complete(work(loop.time))
    finally:
        loop.run_until_complete(_cancel_others())
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
