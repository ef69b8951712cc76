"""What a device with queues of its own is asked for: streams, events, and copies that go on by themselves."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["CudaStreams", "Event", "Stream", "Streams", "streams_of"]


class Event(Protocol):
    """A place in a stream."""

    def synchronize(self) -> None:
        """The calling thread waits until the device is there."""


class Stream(Protocol):
    """A queue of the device's work."""

    def record_event(self) -> Any: ...

    def wait_event(self, event: Any) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


class Streams(Protocol):
    """The queues of one device."""

    def current(self) -> Stream:
        """The one that the calling thread gives its work to."""

    def new_stream(self) -> Stream:
        """A new one, whose work goes before that of others."""

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """In it, `stream` is the current one of the calling thread."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Copy in the current stream. The calling thread goes on where `source` is page-locked."""

    def release_pinned(self) -> None:
        """Page-locked memory that nobody holds goes back to the system."""


class CudaStreams:
    """Those of a CUDA or ROCm device."""

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
        # torch keeps what it locked for whoever asks next. Versions before 2.5 cannot be told to let it go.
        if empty := getattr(torch._C, "_host_emptyCache", None):
            empty()


def streams_of(device: torch.device) -> Streams | None:
    """None where a device has no streams that torch could tell apart by events: copies wait there."""
    return CudaStreams(device) if device.type == "cuda" else None
