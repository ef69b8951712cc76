"""Hashes the frames of a file while they are written, and puts the hash into the file itself.

Metadata is written before the first frame, and the hash is known after the last one. So a tag holds `PENDING`
until then, which is as long as a hash.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .frame_stream import Frame

__all__ = ["FRAMES_SHA256", "PENDING", "FrameHash", "with_hash", "write_hash"]

FRAMES_SHA256 = "frames_sha256"  # the key in a receipt
PENDING = "frames-not-hashed-yet".ljust(64, "-")


class FrameHash:
    """The sha256 of the frames of one file: their size and pixels, in the order of the file.

    accept: called with the hash after the last frame, before the file gets its name. If it raises, no file
            remains.
    """

    def __init__(self, accept: Callable[[str], None] = lambda _: None) -> None:
        self._digest, self._accept = hashlib.sha256(), accept

    @property
    def sha256(self) -> str:
        """The hash of the frames so far, in hex."""
        return self._digest.hexdigest()

    def add(self, frame: Frame) -> None:
        self._digest.update(str(frame.shape).encode())
        self._digest.update(np.ascontiguousarray(frame).data)

    def finish(self) -> str:
        """Return the hash of all frames. Raises what `accept` raises."""
        self._accept(self.sha256)
        return self.sha256


def with_hash(tags: Mapping[str, str], sha256: str) -> dict[str, str]:
    """Return `tags` with the hash where they said `PENDING`."""
    return {name: text.replace(_entry(PENDING), _entry(sha256)) for name, text in tags.items()}


def write_hash(file: Path, sha256: str, key: str = FRAMES_SHA256) -> None:
    """Replace `PENDING` in a finished file whose tags are plain text and have no checksum, as in an MP4.

    key: of the entry in the receipt.
    """
    before, after = _entry(PENDING, key).encode(), _entry(sha256, key).encode()
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        if (at := content.find(before)) >= 0:
            content[at : at + len(before)] = after


def _entry(sha256: str, key: str = FRAMES_SHA256) -> str:
    """Return the entry of a receipt as JSON. A prompt may hold the same words, but not its quotes."""
    return f'"{key}": "{sha256}"'
