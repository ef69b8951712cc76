"""Copies memory-mapped files to a device through a small page-locked buffer.

A device copies from page-locked memory by itself, at the full speed of its link, while the CPU continues. A
model is too large to be page-locked as a whole, so its files are copied through a ring of chunks.
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
    """A ring of page-locked chunks. It works on the stream that is current when `send` is called.

    Only one thread may use it: the one that reads the files. Memory is allocated at the first use.
    """

    def __init__(
        self,
        chunk_bytes: int = CHUNK_BYTES,
        chunks: int = CHUNKS,
        *,
        streams: Streams | None = None,
    ) -> None:
        """Create an empty ring.

        streams: of the target device; None if it cannot copy by itself. Then the memory stays pageable.
        """
        self._streams, self._size, self._count = streams, chunk_bytes, chunks
        self._chunks: list[Tensor] = []
        self._sent: list[Event | None] = []
        self._at, self._filled = 0, 0

    @property
    def held_bytes(self) -> int:
        return sum(chunk.nbytes for chunk in self._chunks)

    def send(self, source: Tensor, target: Tensor) -> None:
        """Copy bytes. Both are uint8, one-dimensional and of one length; `source` is on the CPU."""
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
        """Free the page-locked memory; the next `send` allocates it again. No copy may be in progress."""
        if self._chunks:
            self._chunks.clear()
            self._sent.clear()
            if self._streams is not None:
                self._streams.release_pinned()

    def _next(self) -> None:
        """Hand a full chunk to the device, and wait until the next chunk has been copied."""
        if self._streams is not None:
            self._sent[self._at] = self._streams.current().record_event()
        self._at, self._filled = (self._at + 1) % len(self._chunks), 0
        if (sent := self._sent[self._at]) is not None:
            sent.synchronize()
            self._sent[self._at] = None


class StagedFiles(Files):
    """Files whose bytes are copied to the device first, so that tensors are computed there."""

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
