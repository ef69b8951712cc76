"""Computes content hashes of weight files, fast enough for every receipt."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from pathlib import Path

__all__ = ["file_hash"]

_WHOLE_UP_TO = 256 * 2**20
_SAMPLES, _SAMPLE_BYTES = 64, 2**20
_REMEMBERED = 1024  # files
_SETTLED_S = 2.0  # a change so soon after another one may have the same time: FAT counts in 2 s


def file_hash(file: Path) -> str:
    """Return `sha256:...` of a file up to 256 MiB, else `sampled-sha256:...`.

    A sampled hash covers the size and 64 windows of 1 MiB, including the first and the last. It distinguishes
    checkpoints in a fraction of a second, where hashing 28 GB would take longer than loading them.

    A file that has not changed since it was hashed in this process is not read again.
    """
    stat = file.stat()
    stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time() - max(stat.st_mtime, stat.st_ctime) < _SETTLED_S:
        return _read_hash(file, stat.st_size)
    return _remembered(file.absolute(), stamp)


@lru_cache(_REMEMBERED)
def _remembered(file: Path, stamp: tuple[int, ...]) -> str:
    return _read_hash(file, stamp[2])


def _read_hash(file: Path, size: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        if size <= _WHOLE_UP_TO:
            for chunk in iter(lambda: stream.read(_SAMPLE_BYTES), b""):
                digest.update(chunk)
            return f"sha256:{digest.hexdigest()}"
        digest.update(str(size).encode())
        for window in range(_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * window // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return f"sampled-sha256:{digest.hexdigest()}"
