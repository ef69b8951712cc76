"""Where networks run, in which precision, and how room is made for them.

The local runner asks this port before it fills device memory and tells it when it is done. Inside ComfyUI the
nodes implement it with the host's model management, so that other nodes' models and ours make room for each
other.

A network that just ran may stay, because a next run with other LoRA strengths finds most of it ready. It
stays on the port's terms: whoever needs the room closes it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from .errors import RequestError
from .ram import free_ram, give_back, total_ram

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRECISIONS",
    "RESIDENCIES",
    "DeviceMemory",
    "Memory",
    "Precision",
    "Resident",
    "Seat",
    "compute_dtype",
    "total_under_cap",
    "under_cap",
]

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16")
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

    def free_bytes(self) -> int | None:
        """What can be had now: what is free, and what others would give back. None where nobody knows."""

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
class Seat:
    """Where one network may stay between runs.

    It travels with a model, and every model made from that one shares it, so what stays is gone when the last
    of them is. `taken_by` belongs to the Memory that put it there.
    """

    taken_by: object | None = None


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

    def free_bytes(self) -> int | None:
        free = _free_bytes(self._device)
        return free if free is None or self._kept is None else free + self._kept.size_bytes

    def total_bytes(self) -> int | None:
        if self._device.type == "cuda":
            import torch

            return total_under_cap(self._device, torch.cuda.mem_get_info(self._device)[1])
        return total_ram() if self._device.type == "cpu" else None

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        free = _free_bytes(self._device)
        if self._kept is not None and (free is None or free < size_bytes + working_bytes):
            self._close_kept()
        log.info("loading %s: %.2f GiB on %s", what, size_bytes / 2**30, self._device)

    def release(self) -> None:
        give_back()
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

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


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype networks compute in. `auto` is fp32 on a CPU, bf16 where the device has it, else fp16."""
    import torch

    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def under_cap(device: torch.device, free_bytes: int) -> int:
    """`free_bytes`, or what this process may still take where it was told to take less of a device."""
    import torch

    allowed = _allowed_bytes(device)
    if allowed is None:
        return free_bytes
    return max(min(free_bytes, allowed - torch.cuda.memory_allocated(device)), 0)


def total_under_cap(device: torch.device, total_bytes: int) -> int:
    """`total_bytes` of a device, or the part of it that this process was told to do with."""
    allowed = _allowed_bytes(device)
    return total_bytes if allowed is None else min(total_bytes, allowed)


def _allowed_bytes(device: torch.device) -> int | None:
    """What torch.cuda.set_per_process_memory_fraction leaves; torch before 2.6 does not tell what it was."""
    import torch

    told = getattr(torch.cuda, "get_per_process_memory_fraction", None)
    if device.type != "cuda" or told is None:
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    return int(told(index) * torch.cuda.get_device_properties(index).total_memory)


def _free_bytes(device: torch.device) -> int | None:
    import torch

    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return under_cap(device, torch.cuda.mem_get_info(device)[0] + unused)
    return free_ram() if device.type == "cpu" else None


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
