"""Shows a batch on stderr while it runs: a line for each step, or on a terminal a table that changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from ..fleet.row_journal import JournalRow

__all__ = ["RowLines", "RowTable", "duration", "say"]


@dataclass(frozen=True)
class RowLines:
    """Prints a line on stderr when a row begins and when it ends. unit: what holds a row, line or file."""

    unit: str = "line"

    def resumed(self, done: int, rows: int) -> None:
        if done:
            say(f"{done} of {rows} rows are done already")

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        left = "" if left_s is None else f"; about {duration(left_s)} left"
        say(f"row {position} of {rows}: {row.name}, {self.unit} {row.line}{left}")

    def ended(self, row: JournalRow) -> None:
        say(told(row))


@dataclass
class RowTable:
    """Shows what each worker does in lines that change, and above them what has failed.

    stream: a terminal. workers: their names. clock: returns the time of day, in words.
    """

    stream: TextIO
    workers: Sequence[str]
    clock: Callable[[], str] = lambda: time.strftime("%H:%M:%S")
    _rows: dict[str, tuple[str, str]] = field(default_factory=dict)
    _ended: dict[str, str] = field(default_factory=dict)
    _total: int = 0
    _done_before: int = 0
    _left: str = ""
    _drawn: int = 0

    def resumed(self, done: int, rows: int) -> None:
        self._done_before, self._total = done, rows
        self._draw()

    def begun(self, position: int, rows: int, row: JournalRow, left_s: float | None) -> None:
        del position, rows
        self._rows[str(row.place)] = (row.name, self.clock())
        self._left = "" if left_s is None else f"; about {duration(left_s)} left"
        self._draw()

    def ended(self, row: JournalRow) -> None:
        for worker, (name, _) in list(self._rows.items()):
            if name == row.name:
                del self._rows[worker]
        if row.state == "waiting":
            self._draw(told(row))
            return
        self._ended[row.name] = row.state
        self._draw(told(row) if row.state == "failed" else "")

    def lines(self) -> list[str]:
        """Return the table: how far all is, and a line for each worker."""
        done = self._done_before + sum(state == "done" for state in self._ended.values())
        failed = sum(state == "failed" for state in self._ended.values())
        bad = f", {failed} failed" if failed else ""
        width = max((len(name) for name in self.workers), default=0)
        each = [f"  {name:<{width}}  {self._work_of(name)}" for name in self.workers]
        return [f"{done} of {self._total} rows done{bad}{self._left}", *each]

    def _work_of(self, worker: str) -> str:
        if worker not in self._rows:
            return "-"
        name, since = self._rows[worker]
        return f"{name}, since {since}"

    def _draw(self, news: str = "") -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}F\x1b[J")
        lines = self.lines()
        self.stream.write("".join(f"{line}\n" for line in ([news] if news else []) + lines))
        self.stream.flush()
        self._drawn = len(lines)


def told(row: JournalRow) -> str:
    """Say in a line what became of an attempt."""
    return f"{row.name}: {row.file}" if row.state == "done" else f"{row.name} {row.state}: {row.error}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
