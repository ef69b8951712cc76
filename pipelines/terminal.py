"""What a command line owes a long job: progress on stderr, and a clean end when somebody stops it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TerminalProgress", "stopped_by_sigterm"]


class TerminalProgress:
    """A bar per stage, or one line per stage where `stream` is no terminal.

    Ctrl-C arrives as KeyboardInterrupt by itself, so `check` has nothing to do.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._started = stream, 0.0
        self._stage, self._total, self._unit = "", 0, ""
        self._bar: tqdm[object] | None = None

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._stage, self._total, self._unit, self._started = stage, total, unit, time.monotonic()
        if self._stream.isatty():
            self._bar = tqdm(total=total, desc=stage, unit=f" {unit}", file=self._stream, leave=True)
        else:
            print(f"{stage}: {total} {unit}", file=self._stream, flush=True)

    def advance(self, done: int, preview: Callable[[], Tensor] | None = None) -> None:
        del preview
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if done >= self._total:
                self._bar.close()
                self._bar = None
        elif done >= self._total:
            print(
                f"{self._stage}: done in {time.monotonic() - self._started:.1f} s",
                file=self._stream,
                flush=True,
            )

    def check(self) -> None:
        return


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let a kill unwind like Ctrl-C, so that nothing half-made stays behind. For the main thread."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
