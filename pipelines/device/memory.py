"""The memory interface: where networks run, in which precision, and how device memory is reserved.

The local runner reserves memory before it loads a network, and releases it afterwards. Inside ComfyUI the
nodes implement this interface with ComfyUI's model management, so that models of other nodes and ours unload
each other.

A network may stay loaded after a run, because a next run with other LoRA strengths can reuse most of it. The
memory closes it as soon as its space is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from ..errors import RequestError
from .precision import Part, Precision, capabilities_of, native_precision, torch_dtype
from .ram import free_ram, total_ram, trim_heap

if TYPE_CHECKING:
    import torch

__all__ = [
    "RESIDENCIES",
    "DeviceMemory",
    "KeepAlive",
    "Memory",
    "Resident",
    "bytes_free",
    "bytes_total",
    "compute_dtype",
    "total_under_cap",
    "under_cap",
]

log = logging.getLogger(__name__)

RESIDENCIES = ("auto", "resident", "ring")  # `ring:N` names the number of slots too


class Resident(Protocol):
    """A network that may stay loaded until its memory is needed."""

    @property
    def size_bytes(self) -> int:
        """The size of its weights in bytes."""

    def close(self) -> None:
        """Free the network, even if a reference to this object remains."""


class Memory(Protocol):
    """Device memory, as the local runner uses it."""

    @property
    def device(self) -> torch.device:
        """The device that networks run on."""

    def for_part(self, part: Part) -> Memory:
        """Return the memory of the device on which such a network runs: this one, or another."""

    def auto_dtype(self, part: Part) -> torch.dtype:
        """Return the dtype in which such a network computes if the user chose no precision."""

    def free_bytes(self) -> int | None:
        """Return the free memory in bytes, with what other models would release. None where it is unknown."""

    def total_bytes(self) -> int | None:
        """Return the memory of the device in bytes. None if unknown."""

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        """Make room for the weights of `what`, and for `working_bytes` beside them, before it is loaded."""

    def release(self) -> None:
        """Give up everything reserved so far, and return cached blocks to the device."""

    def keep(self, resident: Resident) -> None:
        """Let the network reserved last stay loaded, as `resident`, until the memory closes it.

        The memory may close it at once.
        """

    def take(self, working_bytes: int = 0) -> Resident | None:
        """Return the network kept by `keep`, or None if it was closed.

        It counts as a new reservation: the caller must call `release` or `keep`.
        """


@dataclass(eq=False)
class KeepAlive:
    """Keeps one network alive between runs.

    A model and all models made from it share one KeepAlive, so the network is freed when the last of these
    models is gone. Only the Memory that set `entry` reads it.
    """

    entry: object | None = None


class DeviceMemory:
    """Memory outside ComfyUI, where no other program part uses the device.

    keeps: whether a network may stay loaded from one run to the next, as long as this object exists. Useful
           for several runs of one expert in a row; a single run gains nothing.
    sharers: processes that use the device together; each counts on an equal part of what is free.

    Raises RequestError if this machine has no such device.
    """

    def __init__(self, device: str | None = None, *, keeps: bool = False, sharers: int = 1) -> None:
        import torch

        name = device or _best_device()
        try:
            torch.zeros(1, device=name).cpu()  # one that holds no numbers, such as meta, fails here too
            self._device = torch.device(name)
        except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
            reason = str(error).partition("\n")[0]
            raise RequestError.of(
                "device", f"{name}: {reason}", "give cpu, or a device of this machine"
            ) from error
        self._keeps, self._sharers = keeps, sharers
        self._kept: Resident | None = None

    @property
    def device(self) -> torch.device:
        return self._device

    def for_part(self, part: Part) -> Memory:  # noqa: ARG002  all of them run on one device
        return self

    def auto_dtype(self, part: Part) -> torch.dtype:  # noqa: ARG002  here all of them compute in the same
        return torch_dtype(native_precision(capabilities_of(self._device)))

    def free_bytes(self) -> int | None:
        free = bytes_free(self._device)
        if free is None:
            return None
        return free // self._sharers + (0 if self._kept is None else self._kept.size_bytes)

    def total_bytes(self) -> int | None:
        return bytes_total(self._device)

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        free = bytes_free(self._device)
        if self._kept is not None and (free is None or free < size_bytes + working_bytes):
            self._close_kept()
        log.info("loading %s: %.2f GiB on %s", what, size_bytes / 2**30, self._device)

    def release(self) -> None:
        trim_heap()
        give_back_cached(self._device)

    def keep(self, resident: Resident) -> None:
        if self._kept is not None:
            self._close_kept()
        if self._keeps:
            self._kept = resident
        else:
            resident.close()
            self.release()

    def take(self, working_bytes: int = 0) -> Resident | None:  # noqa: ARG002  nobody else could make room
        kept, self._kept = self._kept, None
        return kept

    def _close_kept(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
            self.release()


def compute_dtype(precision: Precision, memory: Memory, part: Part) -> torch.dtype:
    """Return the dtype of a network: of the chosen precision, else the one `memory` prefers.

    With `stored` it is the dtype between the products.
    """
    if precision == "auto" or precision == "stored":
        return memory.auto_dtype(part)
    return torch_dtype(precision)


def under_cap(device: torch.device, free_bytes: int, returned_bytes: int = 0) -> int:
    """Return `free_bytes`, or less if this process may use only a part of the device; never below 0.

    returned_bytes: what unloading models of this process would free; added to both.
    """
    allowed = _allowed_bytes(device)
    free = free_bytes if allowed is None else min(free_bytes, allowed - _taken_bytes(device))
    return max(free + returned_bytes, 0)


def total_under_cap(device: torch.device, total_bytes: int) -> int:
    """Return `total_bytes` of a device, or the part of it that this process may use."""
    allowed = _allowed_bytes(device)
    return total_bytes if allowed is None else min(total_bytes, allowed)


def _allowed_bytes(device: torch.device) -> int | None:
    """Return the limit of this process in bytes. None without a limit.

    It is torch.cuda.set_per_process_memory_fraction of a GPU, or Metal's share of main memory. torch before
    2.6 (CUDA) and 2.5 (Metal) does not report it.
    """
    import torch

    if device.type == "cuda" and (fraction := getattr(torch.cuda, "get_per_process_memory_fraction", None)):
        index = torch.cuda.current_device() if device.index is None else device.index
        return int(fraction(index) * torch.cuda.get_device_properties(index).total_memory)
    if device.type == "mps" and (recommended := getattr(torch.mps, "recommended_max_memory", None)):
        return int(recommended())
    return None


def _taken_bytes(device: torch.device) -> int:
    """Return the bytes that tensors of this process use on a device with a limit."""
    import torch

    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    return torch.cuda.memory_allocated(device)


def bytes_free(device: torch.device, system: Callable[[], Any] = psutil.virtual_memory) -> int | None:
    """Return the free bytes of `device`, with the blocks that torch caches. None where they are unknown.

    system: as for `free_ram`.
    """
    import torch

    if device.type == "cpu":
        return free_ram(system)
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return under_cap(device, torch.cuda.mem_get_info(device)[0] + unused)
    if device.type == "mps":  # a part of main memory
        unused = torch.mps.driver_allocated_memory() - torch.mps.current_allocated_memory()
        return under_cap(device, free_ram(system) + max(unused, 0))
    if device.type == "xpu" and hasattr(torch.xpu, "mem_get_info"):  # torch 2.6
        unused = torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device)
        return torch.xpu.mem_get_info(device)[0] + unused
    return None


def bytes_total(device: torch.device, system: Callable[[], Any] = psutil.virtual_memory) -> int | None:
    """Return the memory of a device that this process may use, in bytes. None if unknown."""
    import torch

    if device.type == "cpu":
        return total_ram(system)
    if device.type == "cuda":
        return total_under_cap(device, torch.cuda.mem_get_info(device)[1])
    if device.type == "mps":
        return total_under_cap(device, total_ram(system))
    if device.type == "xpu":
        return torch.xpu.get_device_properties(device).total_memory
    return None


def give_back_cached(device: torch.device) -> None:
    """Return the blocks that torch caches to the device."""
    import torch

    if empty := getattr(getattr(torch, device.type, None), "empty_cache", None):
        empty()


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.xpu.is_available():
        return "xpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"
