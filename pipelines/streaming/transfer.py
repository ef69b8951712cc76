"""How tensors get into slots: from main memory's own files, or over a link to a device with its own memory.

A lane has two sides. One fills, the other one uses, in a thread each where the device allows it. Marks go
between them: "ready from here on", "no longer needed from here on". What a mark is, the lane alone knows: on
CUDA it is an event that one stream records and the other waits for, so that no thread waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..device.ram import give_back
from ..weights.footprint import stays_as_stored
from ..weights.recipe import DTypeRule, Ingredient
from ..weights.staging import StagedFiles, Staging
from ..weights.stored import Files, StoredTensor
from ..weights.streams import Streams, streams_of

__all__ = ["FileLane", "Lane", "LinkLane", "Mark", "lane_of", "padded_bytes"]

Mark = Any
_ALIGNMENT = 256  # bytes; what the allocator of CUDA gives too, so that the same kernels are chosen


class Lane(Protocol):
    """Fills slots, and keeps the two sides apart.

    two_threads: whether one thread may fill while another one computes.
    """

    @property
    def two_threads(self) -> bool: ...

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

    def rest(self) -> None:
        """A run is over: what only filling needs is given back, and nothing is on its way."""

    def close(self) -> None:
        """Nothing is filled any more, and nothing is on its way."""


class FileLane:
    """On a CPU: a slot is a place in a list. What the file has as it is needed stays the mapped file."""

    two_threads = True

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

    def rest(self) -> None: ...

    def close(self) -> None: ...


class LinkLane:
    """On a device with its own memory: slots are taken once, and filled over and over.

    On CUDA a stream of its own copies, dequantises and adds LoRAs while another one computes. It goes first:
    what it computes is short, and would else wait behind every kernel that was given to the device before.

    Without streams one thread does both: there a copy waits for the device anyway, and two threads on MPS end
    the process (https://github.com/pytorch/pytorch/issues/197805).
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
        """streams: of the device. staging: what the bytes of files come through; None copies them at once."""
        self._device, self._dtype_of = device, dtype_of
        with torch.inference_mode():
            self._slots = [torch.empty(slot_bytes, dtype=torch.uint8, device=device) for _ in range(slots)]
        self._streams, self._staging = streams, staging
        self._stream = None if streams is None else streams.beside()
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
        if ready is not None and self._streams is not None:
            self._streams.current().wait_event(ready)

    def done(self) -> Mark:
        return self._record()

    def rest(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()
        if self._staging is not None:
            self._staging.give_back()

    def close(self) -> None:
        self.rest()
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
        if self._streams is None or self._stream is None:
            yield
            return
        with self._streams.on(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            yield

    def _record(self) -> Mark:
        return None if self._streams is None else self._streams.current().record_event()


def lane_of(device: torch.device, dtype_of: DTypeRule, slots: int, slot_bytes: int) -> Lane:
    """The lane for a device. slot_bytes: as `padded_bytes` counts them."""
    if device.type == "cpu":
        return FileLane(device, dtype_of)
    streams = streams_of(device)
    staging = None if streams is None else Staging(streams=streams)
    return LinkLane(device, dtype_of, slots, slot_bytes, streams=streams, staging=staging)


def padded_bytes(tensors: Mapping[str, Ingredient], dtype_of: DTypeRule) -> int:
    """What tensors take in a slot, one behind the other."""
    return sum(_aligned(item.elements * dtype_of(name).itemsize) for name, item in tensors.items())


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _parameter(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor, requires_grad=False)
