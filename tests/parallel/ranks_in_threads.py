"""Ranks as threads of one process that exchange over gloo: as processes do, without their start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from wan_duet.pipelines.parallel.gpu_world import GpuRanks
from wan_duet.pipelines.parallel.rank_group import RankGroup
from wan_duet.pipelines.plan.gpu_layout import GpuLayout

Made = TypeVar("Made")
_TIMEOUT = timedelta(seconds=60)


def in_ranks(size: int, work: Callable[[RankGroup], Made]) -> list[Made]:
    """Return what `work` returns for each rank, in order. Raises the error of the first rank that has one."""
    store = dist.HashStore()
    return _in_threads(size, lambda rank: work(_group(store, rank, range(size))))


def in_layout(layout: GpuLayout, work: Callable[[GpuRanks], Made]) -> list[Made]:
    """Return what `work` returns for each rank of the layout, in order."""
    store, size, halves = dist.HashStore(), layout.sequence, 2 if layout.pair else 1

    def of_rank(rank: int) -> Made:
        half, place = divmod(rank, size)
        everyone = _group(dist.PrefixStore("all", store), rank, range(layout.ranks))
        pair = _group(dist.PrefixStore("pair", store), rank, [place, size + place]) if layout.pair else None
        split = _group(store, rank, range(half * size, half * size + size)) if size > 1 else None
        return work(GpuRanks(layout, ("cpu",) * layout.ranks, everyone, pair, split))

    return _in_threads(halves * size, of_rank)


def _in_threads(size: int, work: Callable[[int], Made]) -> list[Made]:
    made, errors = dict[int, Made](), dict[int, BaseException]()

    def of_rank(rank: int) -> None:
        try:
            with torch.inference_mode():
                made[rank] = work(rank)
        except BaseException as error:
            errors[rank] = error

    threads = [threading.Thread(target=of_rank, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_TIMEOUT.total_seconds())
    for rank in sorted(errors):
        raise errors[rank]
    return [made[rank] for rank in range(size)]


def _group(store: Any, rank: int, ranks: Sequence[int]) -> RankGroup:
    """Return these ranks, seen from one of them, unknown to torch.distributed: it has one world a process."""
    place, named = ranks.index(rank), dist.PrefixStore(str(list(ranks)), store)
    group = dist.ProcessGroup(named, place, len(ranks))
    gloo = dist.ProcessGroupGloo(dist.PrefixStore("gloo", named), place, len(ranks), _TIMEOUT)
    group._register_backend(torch.device("cpu"), dist.ProcessGroup.BackendType.GLOO, gloo)
    return RankGroup(place, len(ranks), group)
