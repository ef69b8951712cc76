"""From memory-mapped files to a device through a little page-locked memory.

A device copies from page-locked memory by itself, at the full speed of its link, while the processor goes on.
A model is too large to be locked as a whole, and need not be: its files are copied through a ring of chunks.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from .stored_tensors import Files
from .streams import Event, Streams

__all__ = ["StagedFiles", "Staging"]

log = logging.getLogger(__name__)

CHUNK_BYTES, CHUNKS = 2**26, 12  # 768 MiB: about one block of the 14B experts is ahead of the link


class Staging:
    """A ring of page-locked chunks. All of it happens on the stream that is current when `send` is called.

    One thread uses it: the one that reads. Nothing is locked before it is needed.
    """

    def __init__(
        self,
        chunk_bytes: int = CHUNK_BYTES,
        chunks: int = CHUNKS,
        *,
        streams: Streams | None = None,
    ) -> None:
        """streams: of the device that is sent to; None where nothing copies by itself. Then the memory stays
        pageable.
        """
        self._streams, self._size, self._count = streams, chunk_bytes, chunks
        self._chunks: list[Tensor] = []
        self._sent: list[Event | None] = []
        self._at, self._filled = 0, 0

    @property
    def held_bytes(self) -> int:
        return sum(chunk.nbytes for chunk in self._chunks)

    def send(self, source: Tensor, target: Tensor) -> None:
        """Copy bytes: both uint8, one-dimensional and of one length; `source` on the CPU."""
        if not self._chunks:
            locked = self._streams is not None
            self._chunks = [_empty(self._size, locked=locked) for _ in range(self._count)]
            self._sent, self._at, self._filled = [None] * self._count, 0, 0
        done, size = 0, source.numel()
        while done < size:
            if self._filled == self._size:
                self._next()
            part = min(size - done, self._size - self._filled)
            piece = self._chunks[self._at][self._filled : self._filled + part]
            piece.copy_(source[done : done + part])
            if self._streams is None:
                target[done : done + part].copy_(piece)
            else:
                self._streams.copy(target[done : done + part], piece)
            done, self._filled = done + part, self._filled + part

    def release_pinned(self) -> None:
        """The memory goes back to the system; the next `send` takes it anew. Nothing may be on its way."""
        if self._chunks:
            self._chunks.clear()
            self._sent.clear()
            if self._streams is not None:
                self._streams.release_pinned()

    def _next(self) -> None:
        """Leave a full chunk to the device, and wait until the next one has been copied from."""
        if self._streams is not None:
            self._sent[self._at] = self._streams.current().record_event()
        self._at, self._filled = (self._at + 1) % len(self._chunks), 0
        if (sent := self._sent[self._at]) is not None:
            sent.synchronize()
            self._sent[self._at] = None


class StagedFiles(Files):
    """Files whose bytes arrive on the device, so that all that is computed from them is computed there."""

    def __init__(self, device: torch.device, staging: Staging) -> None:
        super().__init__(device)
        self._staging = staging

    def raw(self, file: Path, offset: int, size_bytes: int) -> Tensor:
        arrived = torch.empty(size_bytes, dtype=torch.uint8, device=self.device)
        self._staging.send(super().raw(file, offset, size_bytes), arrived)
        return arrived


def _empty(size_bytes: int, *, locked: bool) -> Tensor:
    try:
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=locked)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        log.warning("page-locked memory is not available, so weights load more slowly: %s", reason)
        return torch.empty(size_bytes, dtype=torch.uint8)
