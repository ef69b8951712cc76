"""Decides which worker gets which row, and when a worker counts as lost. Knows no threads, files or clocks.

A worker takes, of the batch that has had the least: first rows whose LoRAs it has loaded, then rows whose
LoRAs nobody has; among those the longest first, because all wait for a long row that begins last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from .retries import REMEDIES, Cause

__all__ = ["Lease", "OpenRow", "RowSchedule"]

_MOST_LOSSES = 8  # one after another, for two minutes; then a worker gets no more rows
_LONGEST_REST_S = 30.0


@dataclass
class OpenRow:
    """A row that is not done.

    number: in the journal. key: of what is loaded for it. work: as `Worker.check` counts it.
    places: where it can run. batch: rows of several batches take turns.
    least_bytes: of the memory of a GPU that can run it, if known.
    """

    number: int
    key: str
    work: float
    places: frozenset[str]
    batch: str = ""
    least_bytes: int = 0
    smaller: int = 0
    avoids: set[str] = field(default_factory=set)
    causes: Counter[Cause] = field(default_factory=Counter)


@dataclass
class Lease:
    """A row that a worker has. until: seconds; None for a worker that ends with this process."""

    row: OpenRow
    attempt: int
    until: float | None


@dataclass
class _Known:
    """What is known of a worker."""

    place: str
    lease_s: float | None
    memory_bytes: int | None
    key: str | None = None
    losses: int = 0
    rests_until: float = 0.0
    lease: Lease | None = None
    silent: bool = False  # its lease ran out, and it has not come back

    @property
    def is_given_up(self) -> bool:
        return self.losses >= _MOST_LOSSES


class RowSchedule:
    """The rows that are not done, and who has which. Times are seconds of one clock that only grows."""

    def __init__(self, rows: Iterable[OpenRow]) -> None:
        self._waiting = {row.number: row for row in rows}
        self._workers: dict[str, _Known] = {}
        self._served: defaultdict[str, float] = defaultdict(float)

    def add_worker(
        self, name: str, place: str, lease_s: float | None, memory_bytes: int | None = None
    ) -> None:
        """memory_bytes: of its GPU. None: unknown, so that it may try any row."""
        self._workers[name] = _Known(place, lease_s, memory_bytes)

    @property
    def is_over(self) -> bool:
        """Whether no row waits and none is leased."""
        return not self._waiting and not self.is_leased

    @property
    def is_leased(self) -> bool:
        """Whether any row is."""
        return any(known.lease for known in self._workers.values())

    @property
    def is_hopeless(self) -> bool:
        """Whether rows wait, and nobody works who may take one, now or later."""
        if not self._waiting or self.is_leased:
            return False
        places = frozenset[str]().union(*(row.places for row in self._waiting.values()))
        able = (known for known in self._workers.values() if known.place in places and not known.is_given_up)
        return all(known.silent for known in able)

    @property
    def has_silent(self) -> bool:
        """Whether a worker went silent and may come back."""
        return any(known.silent for known in self._workers.values())

    @property
    def work_left(self) -> float:
        """The work of all rows that are not done."""
        leased = (known.lease.row for known in self._workers.values() if known.lease)
        return sum(row.work for row in (*self._waiting.values(), *leased))

    def is_given_up(self, worker: str) -> bool:
        """Return whether the worker was lost so often, one time after another, that it gets no more rows."""
        return self._workers[worker].is_given_up

    @property
    def waiting(self) -> frozenset[int]:
        """The numbers of the rows that wait."""
        return frozenset(self._waiting)

    def next_for(self, worker: str, now: float) -> OpenRow | None:
        """Return the row that the worker should take now, if there is one."""
        known = self._workers[worker]
        if known.lease is not None or known.is_given_up or now < known.rests_until:
            return None
        able = [row for row in self._waiting.values() if self._suits(row, worker)]
        if not able:
            return None
        batch = min({row.batch for row in able}, key=lambda name: (self._served[name], name))
        return min((row for row in able if row.batch == batch), key=lambda row: self._rank(row, known))

    def lease(self, worker: str, row: OpenRow, attempt: int, now: float) -> None:
        known = self._workers[worker]
        del self._waiting[row.number]
        self._served[row.batch] += row.work
        known.key, known.silent = row.key, False
        known.lease = Lease(row, attempt, None if known.lease_s is None else now + known.lease_s)

    def beat(self, worker: str, number: int, attempt: int, now: float) -> bool:
        """Extend the lease. Returns False if the worker no longer has it."""
        known = self._workers[worker]
        if not self._has(known, number, attempt):
            return False
        assert known.lease is not None  # noqa: S101 - `_has` says so
        known.lease.until = None if known.lease_s is None else now + known.lease_s
        return True

    def late(self, now: float) -> list[tuple[str, Lease]]:
        """Return the leases that have run out, each with its worker."""
        return [
            (name, known.lease)
            for name, known in self._workers.items()
            if known.lease is not None and known.lease.until is not None and known.lease.until < now
        ]

    def extend_all(self, now: float) -> None:
        """Give every lease its whole time: this process itself did not run for a while."""
        for known in self._workers.values():
            if known.lease is not None and known.lease_s is not None:
                known.lease.until = now + known.lease_s

    def drop(self, worker: str, number: int, attempt: int) -> OpenRow | None:
        """End the lease of a row that is done, has failed for good or was cancelled. None if it had none."""
        known = self._workers[worker]
        known.silent = False
        if not self._has(known, number, attempt):
            return None
        assert known.lease is not None  # noqa: S101 - `_has` says so
        row, known.lease, known.losses = known.lease.row, None, 0
        return row

    def retry(self, worker: str, number: int, attempt: int, cause: Cause, now: float) -> bool:
        """End the lease of a failed attempt. Returns whether the row waits for another one."""
        known, losses = self._workers[worker], self._workers[worker].losses
        row = self.drop(worker, number, attempt)
        if row is None:
            return False
        remedy = REMEDIES[cause]
        if remedy.loses:
            known.losses, known.key = losses + 1, None
            known.rests_until = now + min(_LONGEST_REST_S, 2.0**losses)
        row.causes[cause] += 1
        row.smaller += remedy.smaller
        if remedy.elsewhere and row.causes[cause] >= remedy.elsewhere:
            row.avoids.add(worker)
            if remedy.smaller and known.memory_bytes is not None:
                row.least_bytes = max(row.least_bytes, known.memory_bytes + 1)
        if remedy.leaves:
            row.places -= {known.place}
        if not row.places or (remedy.attempts is not None and row.causes[cause] >= remedy.attempts):
            return False
        self._waiting[row.number] = row
        return True

    def silence(self, worker: str, number: int, attempt: int, now: float) -> bool:
        """End the lease of a worker that went silent, as `retry` for a lost one."""
        again = self.retry(worker, number, attempt, "lost", now)
        self._workers[worker].silent = True
        return again

    def give_back(self, worker: str, number: int, attempt: int) -> None:
        """Let a row wait again that was stopped, without a failure."""
        row = self.drop(worker, number, attempt)
        if row is not None:
            self._waiting[row.number] = row

    def forget(self, number: int) -> None:
        """Drop a row that waits."""
        self._waiting.pop(number, None)

    def cancel(self, number: int) -> None:
        """Drop a row, also one that is leased: its worker then no longer has it."""
        self.forget(number)
        for known in self._workers.values():
            if known.lease is not None and known.lease.row.number == number:
                known.lease = None

    def knows(self, number: int) -> bool:
        """Return whether the row waits or is leased."""
        leased = (known.lease.row.number for known in self._workers.values() if known.lease)
        return number in self._waiting or number in leased

    def reopen(self, row: OpenRow) -> None:
        """Let a row wait again that had ended, with all its attempts before it."""
        row.causes.clear()
        row.avoids.clear()
        self._waiting[row.number] = row

    def _has(self, known: _Known, number: int, attempt: int) -> bool:
        lease = known.lease
        return lease is not None and (lease.row.number, lease.attempt) == (number, attempt)

    def _suits(self, row: OpenRow, worker: str) -> bool:
        """Whether the worker can take the row. One that the row avoids may, if nobody else can.

        So may one with too little memory: what a row needs is an estimate.
        """
        if self._workers[worker].place not in row.places:
            return False
        others = (
            name
            for name, known in self._workers.items()
            if known.place in row.places and not known.is_given_up and not known.silent
        )
        return self._is_good(row, worker) or not any(self._is_good(row, name) for name in others)

    def _is_good(self, row: OpenRow, worker: str) -> bool:
        memory = self._workers[worker].memory_bytes
        return worker not in row.avoids and (memory is None or memory >= row.least_bytes)

    def _rank(self, row: OpenRow, known: _Known) -> tuple[int, int, float, int]:
        """Order rows, the first to take first. One at which workers were lost may be why: it comes last."""
        loaded = {other.key for other in self._workers.values() if other is not known}
        warmth = 0 if row.key == known.key else 1 + (row.key in loaded)
        return (row.causes["lost"], warmth, -row.work, row.number)
