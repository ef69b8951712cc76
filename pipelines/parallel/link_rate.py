"""Measures how many bytes devices exchange in a second."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from .gpu_world import join_world
from .rank_group import RankGroup
from .rank_processes import RankPlace

__all__ = ["link_of_rank", "measure_link"]

_BYTES = 64 * 2**20  # about what a device sends for one block at 832x480
_TIMES = 8


def link_of_rank(place: RankPlace) -> float:
    """Measure as one rank, in a process of its own. See `measure_link`."""
    world = join_world(place.rank, place.devices, place.store)
    rate = measure_link(world.everyone, world.device)
    world.close()
    return rate


def measure_link(group: RankGroup, device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the bytes/s that this device sends while all devices send to all others: the median of eight."""
    part = torch.ones(_BYTES // group.size, dtype=torch.uint8, device=device)
    times = []
    for _ in range(_TIMES + 1):
        begun = clock()
        received = group.exchange([part] * group.size, [part.shape] * group.size)
        received[-1][-1].item()  # waits for the device
        times.append(clock() - begun)
    return (group.size - 1) * part.nbytes / sorted(times[1:])[_TIMES // 2]
