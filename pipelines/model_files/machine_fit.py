"""Whether a set of files fits this machine, and how long its usual request takes here.

The experts need not fit anywhere: what does not stay on the device is streamed, from files that the system
keeps in main memory or reads again from the disk. So the answer says which of these it will be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..plan.expectation import Expectation, Rates, expect
from ..plan.families import FAMILIES
from ..plan.flops import SIZES, NetworkSize
from ..plan.plan import make_plan
from ..request import class_of, parse
from ..request.check import check
from ..request.field_rows import FieldRow, field_rows
from .catalogue import FileSet

__all__ = ["Machine", "expected", "fit"]

_ITEM_BYTES = 2  # of a weight on the device: bfloat16, whatever the file holds


@dataclass(frozen=True)
class Machine:
    """device: "cpu", "cuda:0", ... free_device: bytes on it, None where it is unknown; free_ram: bytes."""

    device: str
    free_device: int | None
    free_ram: int


def fit(files: FileSet, machine: Machine) -> str:
    """In words: what stays on the device, and from where the rest is streamed. Activations come on top."""
    family = FAMILIES[files.family]
    expert = _ITEM_BYTES * weight_count(SIZES[files.family])
    stored = sum(files.slots[slot].size_bytes for slot in ("model", "low_model") if slot in files.slots)
    source = "main memory" if stored <= machine.free_ram else "the disk, which is slow"
    if machine.device == "cpu":
        return f"runs on the CPU from {source}; {machine.free_ram / 1e9:.0f} GB are free"
    if machine.free_device is None:
        return f"free memory of {machine.device} is unknown; blocks are streamed from {source}"
    room = f"{machine.free_device / 1e9:.0f} GB are free on {machine.device}"
    if expert * family.experts <= machine.free_device:
        return f"fits: {room}"
    if expert <= machine.free_device:
        return f"fits one expert at a time: {room}"
    return f"does not fit whole, so blocks are streamed from {source}: {room}"


def weight_count(size: NetworkSize) -> int:
    """Weights of the blocks of an expert: per block 8 d^2 of attention and 2 d f of feed-forward. The rest is
    below 2 % of the published 14B and 5B files.
    """
    return size.layers * (8 * size.width**2 + 2 * size.width * size.ffn)


def expected(kind: str, family: str, rates: Rates | None) -> Expectation | None:
    """How long the default request of a kind takes. None where nothing was measured (`wan-duet bench`), or
    where this family cannot run it.
    """
    if rates is None:
        return None
    resolved = check(parse(kind, _default_values(kind)), family=FAMILIES[family]).resolved
    if resolved is None:
        return None
    return expect(make_plan(resolved, FAMILIES[family], 0), SIZES[family], rates)


def _default_values(kind: str) -> dict[str, Any]:
    """A request with nothing but what it must have, at its first choice or lower end."""
    required = [row for row in field_rows(class_of(kind)) if row.required]
    return {row.name: "x" if row.type == "string" else _least(row) for row in required}


def _least(row: FieldRow) -> Any:
    choices = row.enum or row.offered
    return choices[0] if choices else row.range and row.range.min
