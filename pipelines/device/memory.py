"""Where networks run, in which precision, and how room is made for them.

The local runner asks this port before it fills device memory and tells it when it is done. Inside ComfyUI the
nodes implement it with the host's model management, so that other nodes' models and ours make room for each
other.

A network that just ran may stay, because a next run with other LoRA strengths finds most of it ready. It
stays on the port's terms: whoever needs the room closes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from ..errors import RequestError
from .precision import Part, Precision, abilities_of, native_precision, torch_dtype
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
    "bytes_in_all",
    "compute_dtype",
    "total_under_cap",
    "under_cap",
]

log = logging.getLogger(__name__)

RESIDENCIES = ("auto", "resident", "ring")  # `ring:N` names the number of slots too


class Resident(Protocol):
    """A network that may stay in memory until its room is needed."""

    @property
    def size_bytes(self) -> int:
        """What its weights take."""

    def close(self) -> None:
        """Give the network up, whoever still holds this object."""


class Memory(Protocol):
    """Device memory, as the local runner sees it."""

    @property
    def device(self) -> torch.device:
        """Where networks run."""

    def for_part(self, part: Part) -> Memory:
        """Return the memory of the device on which such a network runs: this one, or another."""

    def auto_dtype(self, part: Part) -> torch.dtype:
        """What such a network computes in where nobody chose a precision."""

    def free_bytes(self) -> int | None:
        """Return the free memory in bytes, with what other models would release. None where it is unknown."""

    def total_bytes(self) -> int | None:
        """What the device has. None where nobody knows."""

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        """Make room for the weights of `what`, and for `working_bytes` beside them, before it is loaded."""

    def release(self) -> None:
        """Everything reserved so far was dropped; give cached blocks back."""

    def keep(self, resident: Resident) -> None:
        """What was reserved last may stay, as `resident`, until the memory closes it: maybe at once."""

    def take(self, working_bytes: int = 0) -> Resident | None:
        """What was kept, if it is still there, as if reserved again. Its taker releases or keeps it."""


@dataclass(eq=False)
class KeepAlive:
    """Keeps one network alive between runs.

    A model and all models made from it share one KeepAlive, so the network is freed when the last of these
    models is gone. Only the Memory that set `entry` reads it.
    """

    entry: object | None = None


class DeviceMemory:
    """Memory outside ComfyUI: this process has the device to itself.

    keeps: whether a network may stay from one run to the next, as long as this object lives. Worth it for
           runs of one expert in a row; a single run has nothing to gain.

    Raises RequestError when `device` is not one that this machine has.
    """

    def __init__(self, device: str | None = None, *, keeps: bool = False) -> None:
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
        self._keeps = keeps
        self._kept: Resident | None = None

    @property
    def device(self) -> torch.device:
        return self._device

    def for_part(self, part: Part) -> Memory:  # noqa: ARG002  all of them run on one device
        return self

    def auto_dtype(self, part: Part) -> torch.dtype:  # noqa: ARG002  here all of them compute in the same
        return torch_dtype(native_precision(abilities_of(self._device)))

    def free_bytes(self) -> int | None:
        free = bytes_free(self._device)
        return free if free is None or self._kept is None else free + self._kept.size_bytes

    def total_bytes(self) -> int | None:
        return bytes_in_all(self._device)

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
    """What a network computes in: what was chosen, or on `auto` what suits the device of `memory`."""
    return memory.auto_dtype(part) if precision == "auto" else torch_dtype(precision)


def under_cap(device: torch.device, free_bytes: int, returned_bytes: int = 0) -> int:
    """`free_bytes`, or what this process may still take where it may take less of a device; never below 0.

    returned_bytes: what models in this process would give back, which both grow by.
    """
    allowed = _allowed_bytes(device)
    free = free_bytes if allowed is None else min(free_bytes, allowed - _taken_bytes(device))
    return max(free + returned_bytes, 0)


def total_under_cap(device: torch.device, total_bytes: int) -> int:
    """`total_bytes` of a device, or the part of it that this process may take."""
    allowed = _allowed_bytes(device)
    return total_bytes if allowed is None else min(total_bytes, allowed)


def _allowed_bytes(device: torch.device) -> int | None:
    """What torch.cuda.set_per_process_memory_fraction leaves of a card, or Metal lends of main memory.

    None where there is no such limit; torch before 2.6 does not tell the one, before 2.5 the other.
    """
    import torch

    if device.type == "cuda" and (told := getattr(torch.cuda, "get_per_process_memory_fraction", None)):
        index = torch.cuda.current_device() if device.index is None else device.index
        return int(told(index) * torch.cuda.get_device_properties(index).total_memory)
    if device.type == "mps" and (recommended := getattr(torch.mps, "recommended_max_memory", None)):
        return int(recommended())
    return None


def _taken_bytes(device: torch.device) -> int:
    """What tensors of this process take of a device that has a limit."""
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


def bytes_in_all(device: torch.device, system: Callable[[], Any] = psutil.virtual_memory) -> int | None:
    """What a device has for this process. None where nobody knows."""
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
    """Blocks that torch keeps for later go back to the device, where it keeps any."""
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
