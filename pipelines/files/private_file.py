"""Opens a file that only its owner may read, such as one with keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import KeyProblemError

__all__ = ["open_private"]


def open_private(file: Path) -> BinaryIO:
    """Open a file to read its bytes. Raises KeyProblemError if other users can read it, and OSError."""
    stream = file.open("rb")
    mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
    if os.name == "posix" and mode & 0o077:
        stream.close()
        raise KeyProblemError(f"{file}: others can read it (mode {mode:o}); run: chmod 600 '{file}'")
    return stream
