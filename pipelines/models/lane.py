"""How tensors get into slots: from main memory's own files, or over a link to a device with its own memory.

A lane has two sides. One thread fills, another one uses, and marks go between them: "ready from here on", "no
longer needed from here on". What a mark is, the lane alone knows: on CUDA it is an event that one stream
records and the other waits for, so that no thread waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..ram import give_back
from ..weights.footprint import stays_as_stored
from ..weights.recipe import DTypeRule, Ingredient
from ..weights.staging import StagedFiles, Staging
from ..weights.stored import Files, StoredTensor

__all__ = ["FileLane", "Lane", "LinkLane", "Mark", "lane_of", "padded_bytes"]

Mark = Any
_ALIGNMENT = 256  # bytes; what the allocator of CUDA gives too, so that the same kernels are chosen


class Lane(Protocol):
    """Fills slots, and keeps the two sides apart."""

    def open(self) -> None:
        """Filling begins, and nobody fills yet. Files may have been written again since the last time, and
        what either side did before is over for the other one from here on.
        """

    def fill(
        self, slot: int, tensors: Mapping[str, Ingredient], after: Mark, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Mark]:
        """Parameters by name, and the mark from which on they are there. On the filling side.

        after: from this mark on what was in the slot is no longer needed. check: may stop it on the way.
        """

    def wait(self, ready: Mark) -> None:
        """What is computed from now on comes after `ready`. On the using side."""

    def done(self) -> Mark:
        """Everything that was computed until now. On the using side."""

    def close(self) -> None:
        """Nothing is filled any more, and nothing is on its way."""


class FileLane:
    """On a CPU: a slot is a place in a list. What the file has as it is needed stays the mapped file."""

    def __init__(self, device: torch.device, dtype_of: DTypeRule) -> None:
        self._device, self._dtype_of, self._files = device, dtype_of, Files(device)

    def open(self) -> None:
        self._files = Files(self._device)

    def fill(
        self,
        slot: int,  # noqa: ARG002  any place will do
        tensors: Mapping[str, Ingredient],
        after: Mark,  # noqa: ARG002  both sides are the same processor
        check: Callable[[], None],
    ) -> tuple[dict[str, Tensor], Mark]:
        made: dict[str, Tensor] = {}
        for name, item in tensors.items():
            check()
            made[name] = _parameter(item.bake(self._files).to(self._device, self._dtype_of(name)))
        if not all(stays_as_stored(item, self._dtype_of(name)) for name, item in tensors.items()):
            give_back()  # what was computed on the way would pile up, unit by unit
        return made, None

    def wait(self, ready: Mark) -> None: ...

    def done(self) -> Mark:
        return None

    def close(self) -> None: ...


class LinkLane:
    """On a device with its own memory: slots are taken once, and filled over and over.

    On CUDA a stream of its own copies, dequantises and adds LoRAs while another one computes. It goes first:
    what it computes is short, and would else wait behind every kernel that was given to the device before.
    """

    def __init__(self, device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> None:
        self._device, self._dtype_of = device, dtype_of
        with torch.inference_mode():
            self._slots = [torch.empty(slot_bytes, dtype=torch.uint8, device=device) for _ in range(slots)]
        self._stream: torch.cuda.Stream | None = None
        self._staging: Staging | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
            self._staging = Staging()
        self._mapped = Files(torch.device("cpu"))
        self._files = self._device_files()

    def open(self) -> None:
        self._mapped, self._files = Files(torch.device("cpu")), self._device_files()
        if self._stream is not None:
            computing = torch.cuda.current_stream(self._device)
            self._stream.wait_stream(computing)
            computing.wait_stream(self._stream)

    def fill(
        self, slot: int, tensors: Mapping[str, Ingredient], after: Mark, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Mark]:
        made: dict[str, Tensor] = {}
        with self._beside(after):
            for name, place in self._places(slot, tensors).items():
                check()
                self._bring(tensors[name], place)
                made[name] = _parameter(place)
            return made, self._record()

    def wait(self, ready: Mark) -> None:
        if ready is not None:
            torch.cuda.current_stream(self._device).wait_event(ready)

    def done(self) -> Mark:
        return self._record()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()
        self._slots.clear()

    def _bring(self, item: Ingredient, place: Tensor) -> None:
        source = item.source
        if self._staging is None or not stays_as_stored(item, place.dtype):
            place.copy_(item.bake(self._files))
        elif isinstance(source, StoredTensor):
            self._staging.send(_bytes_of(self._mapped.read(source.file, source.key)), _bytes_of(place))

    def _places(self, slot: int, tensors: Mapping[str, Ingredient]) -> dict[str, Tensor]:
        room, at, places = self._slots[slot], 0, {}
        for name, item in tensors.items():
            dtype = self._dtype_of(name)
            size = item.elements * dtype.itemsize
            places[name] = room[at : at + size].view(dtype).view(item.shape)
            at += _aligned(size)
        return places

    def _device_files(self) -> Files:
        return Files(self._device) if self._staging is None else StagedFiles(self._device, self._staging)

    @contextmanager
    def _beside(self, after: Mark) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            yield

    def _record(self) -> Mark:
        if self._stream is None:
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def lane_of(device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> Lane:
    """The lane for a device. slot_bytes: as `padded_bytes` counts them."""
    if device.type == "cpu":
        return FileLane(device, dtype_of)
    return LinkLane(device, dtype_of, slots, slot_bytes)


def padded_bytes(tensors: Mapping[str, Ingredient], dtype_of: DTypeRule) -> int:
    """What tensors take in a slot, one behind the other."""
    return sum(_aligned(item.elements * dtype_of(name).itemsize) for name, item in tensors.items())


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _parameter(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor, requires_grad=False)
