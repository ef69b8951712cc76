"""Schedule which unit goes into which slot, and when, for the whole run, before it starts.

The order in which a run uses units is known: those of the high-noise expert once per step, then those of the
low-noise expert. It determines which unit must be loaded for which use, and after which use its slot is free.
Switching experts is no special case.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Load", "Unit", "UnitSchedule", "kept_units", "make_unit_schedule"]


class Unit(NamedTuple):
    """A part of an expert that is loaded as a whole: its `number`th."""

    expert: str
    number: int


@dataclass(frozen=True)
class Load:
    """Loads `unit` into `slot`, for the uses `first` to `last`.

    after: the use of the slot's previous unit that must finish before; -1 if there is none.
    """

    unit: Unit
    slot: int
    first: int
    last: int
    after: int


@dataclass(frozen=True)
class UnitSchedule:
    """The uses and loads of a whole run.

    uses:   units in the order of their use.
    slots:  slot of each use.
    served: index of the load that serves each use; -1 if the unit was in its slot from the start.
    loads:  in the order of their first use.
    """

    uses: tuple[Unit, ...]
    slots: tuple[int, ...]
    served: tuple[int, ...]
    loads: tuple[Load, ...]


def make_unit_schedule(
    uses: Sequence[Unit], slots: int, keep: Collection[Unit], contents: Sequence[Unit | None] = ()
) -> UnitSchedule:
    """Assign a slot to every use, and list the loads this needs.

    slots:    number of slots, 1 or more.
    keep:     units that keep their slot between the forwards of their expert, if another slot is available.
    contents: the unit in each slot at the start; None or left out for an empty slot.

    A unit takes an empty slot first, then the least recently used slot that no unit keeps, then the slot
    of its own expert whose next use is furthest away.
    """
    places: dict[Unit, list[int]] = {}
    for index, unit in enumerate(uses):
        places.setdefault(unit, []).append(index)
    held: list[Unit | None] = [*contents, *[None] * (slots - len(contents))]
    where = {unit: slot for slot, unit in enumerate(held) if unit is not None}
    last_use, serving = [-1] * slots, [-1] * slots  # by slot: the last use, and the load it serves
    kept = frozenset(keep)
    loads: list[Load] = []
    slot_of, served = [], []

    def rank(slot: int, wanted: Unit, now: int) -> tuple[int, int]:
        unit = held[slot]
        if unit is None:
            return 0, last_use[slot]
        coming = places.get(unit, [])
        following = bisect_right(coming, now)
        if unit.expert != wanted.expert or unit not in kept or following == len(coming):
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
    return UnitSchedule(tuple(uses), tuple(slot_of), tuple(served), tuple(loads))


def kept_units(units: int, slots: int, ring: int) -> frozenset[int]:
    """Return which of an expert's `units` stay resident, if `slots` fit and `ring` of them stream the others.

    Streamed units are spread evenly, so that transfers are spread evenly over a forward.
    """
    streamed = 0 if slots >= units else min(units, units - slots + ring)
    moved = {(2 * number + 1) * units // (2 * streamed) for number in range(streamed)}
    return frozenset(range(units)) - moved
