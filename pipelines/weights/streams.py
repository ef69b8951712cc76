"""The interface of a device with streams: streams, events and asynchronous copies."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["CudaStreams", "Event", "Stream", "Streams", "streams_of"]


class Event(Protocol):
    """A point in the work of a stream."""

    def synchronize(self) -> None:
        """Block the calling thread until the device has reached the event."""


class Stream(Protocol):
    """A queue of work of the device."""

    def record_event(self) -> Any: ...

    def wait_event(self, event: Any) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


class Streams(Protocol):
    """The streams of one device."""

    def current(self) -> Stream:
        """Return the stream that the calling thread submits its work to."""

    def new_stream(self) -> Stream:
        """Return a new stream of higher priority."""

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Make `stream` the current one of the calling thread inside a with block."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy in the current stream. The calling thread does not wait if `source` is page-locked."""

    def release_pinned(self) -> None:
        """Return unused page-locked memory to the system."""


class CudaStreams:
    """The streams of a CUDA or ROCm device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def current(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self._device)

    def new_stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device, priority=-1)  # type: ignore[no-untyped-call]

    def on(self, stream: torch.cuda.Stream) -> AbstractContextManager[Any]:
        return torch.cuda.stream(stream)

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def release_pinned(self) -> None:
        # torch caches page-locked memory for later requests. Versions before 2.5 cannot free it.
        if empty := getattr(torch._C, "_host_emptyCache", None):
            empty()


def streams_of(device: torch.device) -> Streams | None:
    """Return the streams of a device. None if torch has no streams with events for it: then copies block."""
    return CudaStreams(device) if device.type == "cuda" else None
