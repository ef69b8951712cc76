"""Decide how much of a model stays on the device while sampling, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import RequestError

__all__ = ["RING", "MemoryBudget", "Residency", "choose_residency", "held_bytes", "parse_residency"]

RING = 3  # slots that keep transfers busy: one in use, one ready, one being filled
_LEAST = 2  # with one slot, no unit could load while another one computes
_SPARE = 2**28  # bytes left for libraries and the allocator


@dataclass(frozen=True)
class MemoryBudget:
    """Memory to plan with, in bytes.

    free:    None if unknown.
    working: for one forward, and for loading a unit at the same time.
    later:   for the VAE and its activations, after sampling.
    """

    free: int | None
    working: int
    later: int = 0


@dataclass(frozen=True)
class Residency:
    """How the units of the experts share the device.

    units:   total units of the experts that the run uses.
    largest: units of the expert that has the most.
    slots:   units on the device at once.
    ring:    slots, of these, that stream units.
    bytes:   size of all slots; in main memory, without tensors that stay in the memory-mapped file.
    """

    units: int
    largest: int
    slots: int
    ring: int
    bytes: int

    def text(self) -> str:
        """Describe this in one line, for the log and the plan."""
        size = f"{self.slots} of {self.units} units ({self.bytes / 2**30:.3g} GiB) on the device"
        if self.slots >= self.units:
            return f"{size}: all resident"
        if self.slots >= self.largest:
            return f"{size}: one expert resident, the other streamed"
        stay = max(self.slots - self.ring, 0)
        return f"{size}: {stay} of an expert's {self.largest} resident, {self.ring} slots stream the others"


def parse_residency(text: str) -> str:
    """`auto`, `resident`, `ring` or `ring:N`, unchanged. Raises RequestError otherwise."""
    if text in ("auto", "resident", "ring") or re.fullmatch(r"ring:[1-9]\d{0,3}", text):
        return text
    raise RequestError.of("residency", text, "give auto, resident, ring, or ring:N with N slots")


def choose_residency(
    wanted: str, sizes: Mapping[str, Sequence[int]], budget: MemoryBudget, *, own_memory: bool = True
) -> Residency:
    """Choose the number of slots, and how many of them stream units.

    wanted: as `parse_residency` returns it.
    sizes:  bytes of every unit, per expert that the run uses.
    own_memory: whether the device has its own memory. Otherwise the second expert is left to the page cache.

    auto takes the first of these that fits into free memory:
    1. both experts resident, with the activations and the VAE;
    2. one expert resident, and three slots to stream the next one;
    3. a part of an expert resident, and three slots;
    4. three slots only; also if free memory is unknown.
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
        slots = _fitting_slots(units, largest, slot_bytes, budget, own_memory=own_memory)
    if slots >= units:
        ring = 0
    elif wanted != "auto":
        ring = slots
    else:
        ring = min(RING, slots) if slots < largest else slots - largest
    taken = slots * slot_bytes if own_memory else held_bytes(sizes, slots)
    return Residency(units, largest, slots, ring, taken)


def _fitting_slots(
    units: int, largest: int, slot_bytes: int, budget: MemoryBudget, *, own_memory: bool
) -> int:
    spare = _SPARE if own_memory else 0
    if not slot_bytes:
        return largest
    if budget.free is None:
        return min(RING, units)
    if own_memory and units * slot_bytes + max(budget.working, budget.later) + spare <= budget.free:
        return units
    fitting = max(budget.free - budget.working - spare, 0) // slot_bytes
    most = min(largest + RING, units) if own_memory else largest
    return min(max(fitting, _LEAST), most, units)


def held_bytes(sizes: Mapping[str, Sequence[int]], slots: int) -> int:
    """Return the most bytes that `slots` units can take, if a slot is as large as its unit."""
    if slots == max(map(len, sizes.values())):
        return max(map(sum, sizes.values()))
    every = sorted((size for expert in sizes.values() for size in expert), reverse=True)
    return sum(every[:slots])
