"""Reads and writes a file that only its owner may read, such as one with keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import KeyProblemError
from .on_disk import write_whole

__all__ = ["read_private", "write_private"]


def read_private(file: Path) -> bytes:
    """Return the content of a file.

    Raises KeyProblemError if it cannot be read, or if other users can read it; FileNotFoundError.
    """
    try:
        with file.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise KeyProblemError(f"{file}: others can read it (mode {mode:o}); run: chmod 600 '{file}'")
            return stream.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyProblemError(f"{file}: cannot be read: {error.strerror or error}") from None


def write_private(file: Path, text: str, failure: str) -> None:
    """Write a file for its owner only, whole or not at all.

    failure: what cannot be done, for the KeyProblemError that is raised then.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(file, text)
    except OSError as error:
        raise KeyProblemError(f"{file.parent}: {failure}: {error.strerror or error}") from None
