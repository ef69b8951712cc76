"""From memory-mapped files to a device through a little page-locked memory.

A device copies from page-locked memory by itself, at the full speed of its link, while the processor goes on.
A model is too large to be locked as a whole, and need not be: its files are copied through a ring of chunks.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from .stored import Files

__all__ = ["StagedFiles", "Staging"]

log = logging.getLogger(__name__)

CHUNK_BYTES, CHUNKS = 2**26, 12  # 768 MiB: about one block of the 14B experts is ahead of the link


class Staging:
    """A ring of page-locked chunks. All of it happens on the stream that is current when `send` is called.

    One thread uses it: the one that reads.
    """

    def __init__(self, chunk_bytes: int = CHUNK_BYTES, chunks: int = CHUNKS, *, locked: bool = True) -> None:
        """locked: False keeps the memory pageable, which is right where nothing copies by itself."""
        self._chunks = [_empty(chunk_bytes, locked=locked) for _ in range(chunks)]
        self._sent: list[torch.cuda.Event | None] = [None] * chunks
        self._size, self._at, self._filled = chunk_bytes, 0, 0

    def send(self, source: Tensor, target: Tensor) -> None:
        """Copy bytes: both uint8, one-dimensional and of one length; `source` on the CPU."""
        done, size = 0, source.numel()
        while done < size:
            if self._filled == self._size:
                self._next(target.device)
            part = min(size - done, self._size - self._filled)
            piece = self._chunks[self._at][self._filled : self._filled + part]
            piece.copy_(source[done : done + part])
            target[done : done + part].copy_(piece, non_blocking=True)
            done, self._filled = done + part, self._filled + part

    def _next(self, device: torch.device) -> None:
        """Leave a full chunk to the device, and wait until the next one has been copied from."""
        if device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._sent[self._at] = event
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
        log.warning("no page-locked memory to be had, so weights come slower: %s", reason)
        return torch.empty(size_bytes, dtype=torch.uint8)
