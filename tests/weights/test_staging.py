"""A ring of chunks to a device that copies as late as it may."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from wan_duet.pipelines.weights.pinned_staging import Staging


class LateEvent:
    def __init__(self, copies: list[tuple[Tensor, Tensor]]) -> None:
        self._copies = copies

    def synchronize(self) -> None:
        """What was given until here is copied now, from what its source holds now."""
        while self._copies:
            target, source = self._copies.pop(0)
            target.copy_(source)


class LateStreams:
    """One queue that is its own device. Only waiting for an event makes it copy."""

    def __init__(self) -> None:
        self._copies: list[tuple[Tensor, Tensor]] = []

    def current(self) -> Any:
        return self

    def new_stream(self) -> Any:
        return self

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext(stream)

    def copy(self, target: Tensor, source: Tensor) -> None:
        self._copies.append((target, source))

    def record_event(self) -> LateEvent:
        return LateEvent(self._copies)

    def release_pinned(self) -> None: ...


def test_a_chunk_waits_for_its_copy_before_it_is_filled_again() -> None:
    streams, sent = LateStreams(), torch.arange(250, dtype=torch.uint8)
    staging, arrived = Staging(64, 2, streams=streams), torch.zeros(250, dtype=torch.uint8)
    staging.send(sent, arrived)
    assert not torch.equal(arrived, sent)  # its end is still on the way
    streams.record_event().synchronize()
    assert torch.equal(arrived, sent)
