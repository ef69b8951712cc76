"""Where networks run, in which precision, and how room is made for them.

The local runner asks this port before it fills device memory and tells it when it is done. Inside ComfyUI the
nodes implement it with the host's model management, so that other nodes' models make room for ours.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, Protocol

from .errors import RequestError

if TYPE_CHECKING:
    import torch

__all__ = ["PRECISIONS", "DeviceMemory", "Memory", "Precision", "compute_dtype"]

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16")


class Memory(Protocol):
    """Device memory, as the local runner sees it."""

    @property
    def device(self) -> torch.device:
        """Where networks run."""

    def reserve(self, size_bytes: int, what: str) -> None:
        """Make room for `size_bytes` of `what` before it is loaded."""

    def release(self) -> None:
        """Everything reserved so far was dropped; give cached blocks back."""


class DeviceMemory:
    """Memory outside ComfyUI: this process has the device to itself.

    Raises RequestError when `device` is not one that this machine has.
    """

    def __init__(self, device: str | None = None) -> None:
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

    @property
    def device(self) -> torch.device:
        return self._device

    def reserve(self, size_bytes: int, what: str) -> None:
        log.info("loading %s: %.2f GiB on %s", what, size_bytes / 2**30, self._device)

    def release(self) -> None:
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


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


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
