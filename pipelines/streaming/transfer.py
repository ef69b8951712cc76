"""Transfer tensors into slots: from mapped files in main memory, or over a link to a device's own memory.

One side fills slots and the other computes with them, each in its own thread if the device allows it. Events
order them: "loaded" and "no longer used". Only the transfer knows what an event is. On CUDA, one stream
records it and the other waits for it, so that no thread waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..device.ram import trim_heap
from ..weights.footprint import stays_as_stored
from ..weights.pinned_staging import StagedFiles, Staging
from ..weights.recipe import DTypeRule, TensorRecipe
from ..weights.stored_tensors import Files, StoredTensor
from ..weights.streams import Streams, streams_of

__all__ = ["DeviceEvent", "DeviceTransfer", "FileTransfer", "Transfer", "padded_bytes", "transfer_for"]

DeviceEvent = Any
_ALIGNMENT = 256  # bytes; as the CUDA allocator aligns, so that the same kernels are chosen


class Transfer(Protocol):
    """Fills slots, and orders filling and computing.

    two_threads: whether one thread may fill while another computes.
    """

    @property
    def two_threads(self) -> bool: ...

    def open(self) -> None:
        """Prepare for filling. Reopens the files, which may have been rewritten, and makes each side wait for
        what the other did before.
        """

    def fill(
        self, slot: int, tensors: Mapping[str, TensorRecipe], after: DeviceEvent, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], DeviceEvent]:
        """Return parameters by name, and the event after which they are loaded. Called by the filling side.

        after: event after which the slot's previous tensors are unused. check: may raise to stop.
        """

    def wait(self, ready: DeviceEvent) -> None:
        """Order later computation after `ready`. Called by the computing side."""

    def done(self) -> DeviceEvent:
        """Return the event of everything computed so far. Called by the computing side."""

    def finish(self) -> None:
        """End a run: complete all transfers, and free the memory that only filling needs."""

    def close(self) -> None:
        """Complete all transfers, and free the slots."""


class FileTransfer:
    """Reads units on a CPU. Tensors stored in the dtype that is needed stay in the mapped file."""

    two_threads = True

    def __init__(self, device: torch.device, dtype_of: DTypeRule) -> None:
        self._device, self._dtype_of, self._files = device, dtype_of, Files(device)

    def open(self) -> None:
        self._files = Files(self._device)

    def fill(
        self,
        slot: int,  # noqa: ARG002  tensors bring their own memory
        tensors: Mapping[str, TensorRecipe],
        after: DeviceEvent,  # noqa: ARG002  no queue to wait for
        check: Callable[[], None],
    ) -> tuple[dict[str, Tensor], DeviceEvent]:
        made: dict[str, Tensor] = {}
        for name, item in tensors.items():
            check()
            made[name] = _parameter(item.compute(self._files).to(self._device, self._dtype_of(name)))
        if not all(stays_as_stored(item, self._dtype_of(name)) for name, item in tensors.items()):
            trim_heap()  # temporary tensors would accumulate, unit by unit
        return made, None

    def wait(self, ready: DeviceEvent) -> None: ...

    def done(self) -> DeviceEvent:
        return None

    def finish(self) -> None: ...

    def close(self) -> None: ...


class DeviceTransfer:
    """Copies units to a device with its own memory, into slots that are allocated once.

    On CUDA a second stream copies, dequantises and adds LoRAs while the first one computes. It has the higher
    priority: its kernels are short, and would otherwise wait for every kernel already queued.

    Without streams one thread fills and computes: a copy waits for the device anyway, and two threads crash
    the process on MPS (https://github.com/pytorch/pytorch/issues/197805).
    """

    def __init__(
        self,
        device: torch.device,
        dtype_of: DTypeRule,
        slots: int,
        slot_bytes: int,
        *,
        streams: Streams | None = None,
        staging: Staging | None = None,
    ) -> None:
        """streams: of the device. staging: pinned buffers for file contents; None copies synchronously."""
        self._device, self._dtype_of = device, dtype_of
        with torch.inference_mode():
            self._slots = [torch.empty(slot_bytes, dtype=torch.uint8, device=device) for _ in range(slots)]
        self._streams, self._staging = streams, staging
        self._stream = None if streams is None else streams.new_stream()
        self._mapped = Files(torch.device("cpu"))
        self._files = self._device_files()

    @property
    def two_threads(self) -> bool:
        return self._stream is not None

    def open(self) -> None:
        self._mapped, self._files = Files(torch.device("cpu")), self._device_files()
        if self._streams is not None and self._stream is not None:
            computing = self._streams.current()
            self._stream.wait_stream(computing)
            computing.wait_stream(self._stream)

    def fill(
        self, slot: int, tensors: Mapping[str, TensorRecipe], after: DeviceEvent, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], DeviceEvent]:
        made: dict[str, Tensor] = {}
        with self._on_stream(after):
            for name, target in self._targets(slot, tensors).items():
                check()
                self._copy(tensors[name], target)
                made[name] = _parameter(target)
            return made, self._record()

    def wait(self, ready: DeviceEvent) -> None:
        if ready is not None and self._streams is not None:
            self._streams.current().wait_event(ready)

    def done(self) -> DeviceEvent:
        return self._record()

    def finish(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()
        if self._staging is not None:
            self._staging.release_pinned()

    def close(self) -> None:
        self.finish()
        self._slots.clear()

    def _copy(self, item: TensorRecipe, target: Tensor) -> None:
        source = item.source
        if self._staging is None or not stays_as_stored(item, target.dtype):
            target.copy_(item.compute(self._files))
        elif isinstance(source, StoredTensor):
            self._staging.send(_bytes_of(self._mapped.read(source.file, source.key)), _bytes_of(target))

    def _targets(self, slot: int, tensors: Mapping[str, TensorRecipe]) -> dict[str, Tensor]:
        buffer, at, targets = self._slots[slot], 0, {}
        for name, item in tensors.items():
            dtype = self._dtype_of(name)
            size = item.elements * dtype.itemsize
            targets[name] = buffer[at : at + size].view(dtype).view(item.shape)
            at += _aligned(size)
        return targets

    def _device_files(self) -> Files:
        return Files(self._device) if self._staging is None else StagedFiles(self._device, self._staging)

    @contextmanager
    def _on_stream(self, after: DeviceEvent) -> Iterator[None]:
        if self._streams is None or self._stream is None:
            yield
            return
        with self._streams.on(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            yield

    def _record(self) -> DeviceEvent:
        return None if self._streams is None else self._streams.current().record_event()


def transfer_for(device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> Transfer:
    """Make the transfer for a device. slot_bytes: of one slot, the most that `padded_bytes` returns."""
    if device.type == "cpu":
        return FileTransfer(device, dtype_of)
    streams = streams_of(device)
    staging = None if streams is None else Staging(streams=streams)
    return DeviceTransfer(device, dtype_of, slots, slot_bytes, streams=streams, staging=staging)


def padded_bytes(tensors: Mapping[str, TensorRecipe], dtype_of: DTypeRule) -> int:
    """Return the size of tensors laid out in a slot, each aligned."""
    return sum(_aligned(item.elements * dtype_of(name).itemsize) for name, item in tensors.items())


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _parameter(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor, requires_grad=False)
