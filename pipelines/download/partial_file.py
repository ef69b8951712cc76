"""A partly downloaded file: how many bytes it has, and of which version of the file they are."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.on_disk import remove
from ..progress import Progress

if TYPE_CHECKING:
    import httpx

__all__ = [
    "BrokenError",
    "forget",
    "forget_version",
    "hash_of",
    "note_version",
    "size_of",
    "sync_and_hash",
    "verify",
    "version_of",
]

_STRONG = re.compile(r'"[!-~]*"')
_MD5 = re.compile(r"md5=([A-Za-z0-9+/]{22}==)")


class BrokenError(Exception):
    """The connection ended too early. The bytes received so far are kept.

    retry_after_s: the wait the server asked for; None if it did not.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


def sync_and_hash(part: Path) -> str:
    """Flush the file to the disk (fsync). Return its sha256."""
    digest = hashlib.sha256()
    with part.open("rb+") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
        os.fsync(stream.fileno())
    return digest.hexdigest()


def hash_of(part: Path, progress: Progress) -> str:
    """sha256 of the file. Raises what `progress.check` raises."""
    digest, done, total = hashlib.sha256(), 0, -(-size_of(part) // 2**20)
    progress.begin("checking", total, "MiB")
    with part.open("rb") as stream:
        while chunk := stream.read(2**20):
            progress.check()
            digest.update(chunk)
            done += 1
            progress.advance(done)
    return digest.hexdigest()


def version_of(part: Path) -> tuple[str, int]:
    """Return the ETag of the partial file and its size in bytes. ("", 0) if it cannot be resumed."""
    try:
        etag = json.loads(_note(part).read_text(encoding="utf-8"))["etag"]
    except (OSError, ValueError, TypeError, KeyError):
        return "", 0
    # It goes into a header, as it came out of one.
    sound = isinstance(etag, str) and _STRONG.fullmatch(etag) is not None
    return (etag, size_of(part)) if sound else ("", 0)


def note_version(part: Path, response: httpx.Response) -> None:
    """Write the version of the file that `response` sends beside `part`.

    Only a strong ETag guarantees equal bytes (RFC 9110, 13.1.5). Some servers add a hash of the file
    (cloud.google.com/storage/docs, x-goog-hash, 2026-11).
    """
    etag = response.headers.get("etag", "")
    hashes = _MD5.search(response.headers.get("x-goog-hash", ""))
    note = {"etag": etag if _STRONG.fullmatch(etag) else "", "md5": hashes and hashes[1]}
    _note(part).write_text(json.dumps(note), encoding="utf-8")


def verify(part: Path) -> None:
    """Compare the file with the hash the server stated, if any.

    Raises BrokenError if they differ, after deleting the file, so that the next attempt starts again.
    """
    try:
        stated = json.loads(_note(part).read_text(encoding="utf-8")).get("md5")
    except (OSError, ValueError, AttributeError):
        return
    if stated is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with part.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    if base64.b64encode(digest.digest()).decode() != stated:
        forget(part)
        raise BrokenError("the file was damaged during the download")


def forget(part: Path) -> None:
    """Delete the partial file and its version."""
    remove(part)
    forget_version(part)


def forget_version(part: Path) -> None:
    """Delete only the version, for a file that is complete."""
    remove(_note(part))


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def size_of(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
