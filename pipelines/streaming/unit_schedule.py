"""Which unit goes into which slot, and when: the whole run as one list, decided before it starts.

A run uses units one after the other: those of the high-noise expert again and again, then those of the other.
Since the order is known, so is everything else: what must be loaded for which use, and after which use its
slot is free. The change of experts is a line like any other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Load", "Timetable", "Unit", "make_timetable", "staying"]


class Unit(NamedTuple):
    """One piece of one expert: the `number`th of those that are brought together."""

    expert: str
    number: int


@dataclass(frozen=True)
class Load:
    """Bring `unit` into `slot`. `first` and `last` are the uses it serves.

    after: the use that must be over before, because it needs what the slot holds; -1 where none does.
    """

    unit: Unit
    slot: int
    first: int
    last: int
    after: int


@dataclass(frozen=True)
class Timetable:
    """The whole run.

    uses:   what is used, in order.
    slots:  where each of them is then.
    served: by which load; -1 where the unit was there from the start.
    loads:  in the order of their first use.
    """

    uses: tuple[Unit, ...]
    slots: tuple[int, ...]
    served: tuple[int, ...]
    loads: tuple[Load, ...]


def make_timetable(
    uses: Sequence[Unit], slots: int, stay: Collection[Unit], contents: Sequence[Unit | None] = ()
) -> Timetable:
    """slots:    how many there are, 1 or more.
    stay:     units that keep their slot between the forwards of their expert, as long as another can be had.
    contents: what each slot holds at the start, as far as this run knows it; None or left out for nothing.

    A unit takes an empty slot, else the one that has been done with for longest, else the one of its own
    expert that is needed last.
    """
    places: dict[Unit, list[int]] = {}
    for index, unit in enumerate(uses):
        places.setdefault(unit, []).append(index)
    held: list[Unit | None] = [*contents, *[None] * (slots - len(contents))]
    where = {unit: slot for slot, unit in enumerate(held) if unit is not None}
    last_use, serving = [-1] * slots, [-1] * slots  # by slot: the last use, and the load it serves
    staying_units = frozenset(stay)
    loads: list[Load] = []
    slot_of, served = [], []

    def rank(slot: int, wanted: Unit, now: int) -> tuple[int, int]:
        unit = held[slot]
        if unit is None:
            return 0, last_use[slot]
        coming = places.get(unit, [])
        following = bisect_right(coming, now)
        if unit.expert != wanted.expert or unit not in staying_units or following == len(coming):
            return 1, last_use[slot]
        return 2, -coming[following]

    for index, unit in enumerate(uses):
        slot = where.get(unit, -1)
        if slot < 0:
            slot = min(range(slots), key=lambda slot: rank(slot, unit, index))
            if (old := held[slot]) is not None:
                del where[old]
            held[slot], where[unit] = unit, slot
            serving[slot] = len(loads)
            loads.append(Load(unit, slot, index, index, last_use[slot]))
        elif serving[slot] >= 0:
            load = loads[serving[slot]]
            loads[serving[slot]] = Load(load.unit, slot, load.first, index, load.after)
        last_use[slot] = index
        slot_of.append(slot)
        served.append(serving[slot])
    return Timetable(tuple(uses), tuple(slot_of), tuple(served), tuple(loads))


def staying(units: int, slots: int, ring: int) -> frozenset[int]:
    """Which of the `units` of an expert stay, when `slots` of them fit and `ring` slots are for the others.

    Those that do not stay are spread evenly, so that the link to the device is never asked for two in a row
    while it could have been working before.
    """
    passing = 0 if slots >= units else min(units, units - slots + ring)
    moved = {(2 * number + 1) * units // (2 * passing) for number in range(passing)}
    return frozenset(range(units)) - moved
