"""All ranks of a run, and how they are arranged into groups for one request."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import PackageError
from ..plan.gpu_layout import EXACTNESS, GpuLayout
from .rank_group import RankGroup

__all__ = ["GpuRanks", "GpuWorld", "join_world", "share_cores"]

Value = TypeVar("Value")

# A rank that ends is noticed at once by whoever started it; this is for one that stands still. It must be
# longer than rank 0 takes to decode and write a result while the others wait for the next one.
_TIMEOUT = timedelta(hours=2)
_LOOPBACKS = ("lo", "lo0")  # Linux, macOS


@dataclass(frozen=True)
class GpuRanks:
    """The ranks of one request, seen from one of them.

    devices:  of all ranks, in order.
    everyone: all ranks.
    pair:     this rank and the one with the same tokens of the other prompt; None without a guidance pair.
    sequence: the ranks that share the tokens of a prompt; None if each has all of them.
    """

    layout: GpuLayout
    devices: tuple[str, ...]
    everyone: RankGroup
    pair: RankGroup | None
    sequence: RankGroup | None

    def from_first(self, value: Value) -> Value:
        """Return `value` with the tensors of rank 0, so that ranks on unequal GPUs start from equal bits.

        value: a tensor, a dataclass of them, or something else, which is returned as it is.
        """
        if isinstance(value, Tensor):
            return self.everyone.from_first(value)  # type: ignore[return-value]
        if not is_dataclass(value) or isinstance(value, type):
            return value
        changed = {field.name: self.from_first(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **changed)

    def as_dict(self) -> dict[str, Any]:
        """Return what the receipt says. Results differ from those of one device by rounding only."""
        return {"devices": list(self.devices), **self.layout.as_dict(), "exactness": EXACTNESS}

    def text(self) -> str:
        """Return one line of text."""
        return f"{len(self.devices)} devices ({', '.join(self.devices)}): {self.layout.text()}"


class GpuWorld:
    """The processes of torch.distributed, one for each device."""

    def __init__(self, rank: int, devices: Sequence[str], *, staged: bool) -> None:
        self.rank, self.devices = rank, tuple(devices)
        self.everyone = RankGroup(rank, len(devices), None, staged=staged)
        self._staged = staged
        self._arranged: dict[GpuLayout, GpuRanks] = {}

    @property
    def device(self) -> str:
        return self.devices[self.rank]

    def arrange(self, layout: GpuLayout) -> GpuRanks:
        """Return the groups of a layout. Every rank must ask for the same layouts in the same order."""
        if layout not in self._arranged:
            size, halves = layout.sequence, range(2 if layout.pair else 1)
            sequences = [[half * size + place for place in range(size)] for half in halves]
            pairs = [[half * size + place for half in halves] for place in range(size)]
            self._arranged[layout] = GpuRanks(
                layout,
                self.devices,
                self.everyone,
                self._mine(pairs) if layout.pair else None,
                self._mine(sequences) if size > 1 else None,
            )
        return self._arranged[layout]

    def _mine(self, groups: Sequence[Sequence[int]]) -> RankGroup | None:
        """Make these groups, as every rank must, and return the one that this rank is in."""
        mine = None
        for ranks in groups:
            made = dist.new_group(list(ranks), timeout=_TIMEOUT)
            if self.rank in ranks:
                mine = RankGroup(ranks.index(self.rank), len(ranks), made, staged=self._staged)
        return mine

    def close(self) -> None:
        dist.destroy_process_group()


def join_world(rank: int, devices: Sequence[str], store: Path | None) -> GpuWorld:
    """Join the other ranks, and wait for them.

    store: a file of the ranks of this machine, in a folder that is only ours. None meets them where the
           environment variables of torchrun say.

    Exchanges over NCCL on CUDA, else over gloo; on this machine alone gloo listens on the loopback only. Sets
    the CUDA device of the process. Raises PackageError if torch was built without torch.distributed.
    """
    if not dist.is_available():
        raise PackageError("gpus: this build of torch has no torch.distributed; use one device")
    device = torch.device(devices[rank])
    backend = "nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    met: dict[str, Any] = {"init_method": "env://"}
    if store is not None:
        met = {"store": dist.FileStore(str(store), len(devices))}  # type: ignore[attr-defined]
        _stay_on_this_machine()
    dist.init_process_group(backend, rank=rank, world_size=len(devices), timeout=_TIMEOUT, **met)
    return GpuWorld(rank, devices, staged=backend == "gloo" and device.type != "cpu")


def share_cores(devices: Sequence[str]) -> None:
    """Leave this process, a rank on the CPU, its part of the cores."""
    if count := devices.count("cpu"):
        torch.set_num_threads(max(1, torch.get_num_threads() // count))


def _stay_on_this_machine() -> None:
    """Let gloo and NCCL listen on the loopback alone, unless the user chose an interface."""
    if not hasattr(socket, "if_nameindex"):
        return
    names = {name for _, name in socket.if_nameindex()}
    for loopback in names.intersection(_LOOPBACKS):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
