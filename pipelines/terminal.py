"""Progress of a long job on a terminal, and as one line per stage where stderr is not one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TerminalProgress"]


class TerminalProgress:
    """A bar per stage. Ctrl-C arrives as KeyboardInterrupt by itself, so `check` has nothing to do."""

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
