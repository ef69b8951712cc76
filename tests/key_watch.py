"""After all tests: the keys that they used are in no file that they left and in no line that was logged."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

__all__ = ["KEY_FILE", "LogWatch", "files_with_keys"]

# The secret halves of the keys that tests use, in every file the same.
_SECRETS = ("c0ffee00112233445566778899aabbcc", "sk_Zm9yLXRlc3RzLW9ubHktMDEyMzQ1Njc4OQ")
KEY_FILE = "keys.json"  # the one place where a key may be
_SPELLED = {
    form
    for secret in _SECRETS
    for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("="))
}
_CHUNK, _OVERLAP = 2**24, 256  # bytes


class LogWatch(logging.Handler):
    """found: every line with a key in it, at whatever level a test has switched on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if any(form in line for form in _SPELLED):
            self.found.append(f"{record.name}: {line[:200]}")


def files_with_keys(folder: Path) -> Iterator[Path]:
    needles = [form.encode() for form in _SPELLED]
    for file in folder.rglob("*"):
        if file.name != KEY_FILE and file.is_file() and not file.is_symlink():
            kept = b""
            for chunk in _written(file):
                kept = kept[-_OVERLAP:] + chunk
                if any(needle in kept for needle in needles):
                    yield file
                    break


def _written(file: Path) -> Iterator[bytes]:
    """What was written into a file; tests make some of many gigabytes that are nothing but a hole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        at = 0
        while at < size:
            if hasattr(os, "SEEK_DATA"):
                try:
                    at = os.lseek(stream.fileno(), at, os.SEEK_DATA)
                except OSError:  # a hole up to the end
                    return
            stream.seek(at)
            chunk = stream.read(_CHUNK)
            at += len(chunk)
            yield chunk
