"""How much of a model lies on the device while it samples: decided in numbers before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import RequestError

__all__ = ["RING", "Residency", "Room", "choose_residency", "held_bytes", "parse_residency"]

RING = 3  # slots that keep the link busy: one is in use, one is ready, one is being filled
_LEAST = 2  # with one slot nothing could be loaded while something is used
_SPARE = 2**28  # bytes beside what is counted: what libraries and an allocator take for themselves


@dataclass(frozen=True)
class Room:
    """What a decision goes by, in bytes. None where nobody knows what there is.

    working: one forward, and making a unit beside it.
    later:   what comes after sampling, which is the VAE with its work.
    """

    free: int | None
    working: int
    later: int = 0


@dataclass(frozen=True)
class Residency:
    """How the units of the experts share the device.

    units:      of all experts that the run uses.
    largest:    units of the expert that has most.
    slots:      how many are there at once.
    ring:       how many of these slots others pass through, one after the other.
    bytes:      what they take on the device; in main memory without what stays the memory-mapped file.
    """

    units: int
    largest: int
    slots: int
    ring: int
    bytes: int

    def text(self) -> str:
        """One line for people."""
        size = f"{self.slots} of {self.units} units ({self.bytes / 2**30:.3g} GiB) on the device"
        if self.slots >= self.units:
            return f"{size}: all stay"
        if self.slots >= self.largest:
            return f"{size}: one expert stays, the next one follows it unit by unit"
        stay = max(self.slots - self.ring, 0)
        return f"{size}: {stay} of an expert's {self.largest} stay, {self.ring} slots stream the others"


def parse_residency(text: str) -> str:
    """`auto`, `resident`, `ring` or `ring:N`, unchanged. Raises RequestError otherwise."""
    if text in ("auto", "resident", "ring") or re.fullmatch(r"ring:[1-9]\d{0,3}", text):
        return text
    raise RequestError.of("residency", text, "give auto, resident, ring, or ring:N with N slots")


def choose_residency(
    wanted: str, sizes: Mapping[str, Sequence[int]], room: Room, *, beside: bool = True
) -> Residency:
    """wanted: as `parse_residency` has it.
    sizes:  bytes of every unit, per expert that the run uses.
    beside: whether the device has a memory of its own. In main memory the second expert waits in its file,
            which the system keeps there as long as there is room.

    auto: everything, where it fits together with the work and with what comes later; else one expert, and a
    ring through which the next one comes; else a part of it and a ring; else the ring alone, which is also
    what there is where nobody knows what is free.
    """
    parse_residency(wanted)
    counts = [len(units) for units in sizes.values()]
    units, largest = sum(counts), max(counts)
    slot_bytes = max(size for expert in sizes.values() for size in expert)
    if wanted == "resident":
        slots = units
    elif wanted != "auto":
        slots = min(int(wanted.partition(":")[2] or RING), units)
    else:
        slots = _that_fit(units, largest, slot_bytes, room, beside=beside)
    if slots >= units:
        ring = 0
    elif wanted != "auto":
        ring = slots
    else:
        ring = min(RING, slots) if slots < largest else slots - largest
    taken = slots * slot_bytes if beside else held_bytes(sizes, slots)
    return Residency(units, largest, slots, ring, taken)


def _that_fit(units: int, largest: int, slot_bytes: int, room: Room, *, beside: bool) -> int:
    spare = _SPARE if beside else 0
    if not slot_bytes:
        return largest
    if room.free is None:
        return min(RING, units)
    if beside and units * slot_bytes + max(room.working, room.later) + spare <= room.free:
        return units
    fitting = max(room.free - room.working - spare, 0) // slot_bytes
    most = min(largest + RING, units) if beside else largest
    return min(max(fitting, _LEAST), most, units)


def held_bytes(sizes: Mapping[str, Sequence[int]], slots: int) -> int:
    """What `slots` slots hold at most, where a slot is as large as what is in it."""
    if slots == max(map(len, sizes.values())):
        return max(map(sum, sizes.values()))
    every = sorted((size for expert in sizes.values() for size in expert), reverse=True)
    return sum(every[:slots])
