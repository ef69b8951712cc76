"""Files come into their place whole, and go, also where another program has them open.

Windows refuses to replace or remove a file that is open or memory-mapped somewhere. Virus scanners open each
new file for a moment, so what is refused is tried again before it is an error.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["FileInUseError", "discard", "move_into_place", "remove", "write_whole"]

log = logging.getLogger(__name__)

# ERROR_ACCESS_DENIED (the target of a move is open), _SHARING_VIOLATION, _LOCK_VIOLATION, _USER_MAPPED_FILE
# (learn.microsoft.com/windows/win32/debug/system-error-codes, 2026-11). Python has no errno for the last, so
# it is a plain OSError and no PermissionError.
_IN_USE = {5, 32, 33, 1224}
_WAITS_S = tuple(0.05 * 2**tries for tries in range(5))


class FileInUseError(PermissionError):
    """Another program, or a model that was loaded from the file, still has it open."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EACCES, "another program has it open; close it there and try again", str(path))


def move_into_place(part: Path, place: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """`part` becomes `place` in one step, in place of what is there. Raises FileInUseError and OSError."""
    _patiently(lambda: os.replace(part, place), place, sleep)


def remove(path: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """The file is gone afterwards, or there was none. Raises FileInUseError and OSError."""
    _patiently(lambda: path.unlink(missing_ok=True), path, sleep)


def discard(path: Path) -> None:
    """As `remove`, for a file of no more use: where it cannot go it stays, and the log says so."""
    try:
        remove(path)
    except OSError as error:
        log.warning("%s cannot be removed and stays: %s", path, error.strerror or error)


def write_whole(file: Path, text: str) -> None:
    """The file holds `text`, and only its owner can read it, or it stays as it was. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        move_into_place(Path(name), file)
    except BaseException:
        discard(Path(name))
        raise


def _patiently(act: Callable[[], None], path: Path, sleep: Callable[[float], None]) -> None:
    waits_s = iter(_WAITS_S)
    while not _done(act):
        wait_s = next(waits_s, None)
        if wait_s is None:
            raise FileInUseError(path)
        sleep(wait_s)


def _done(act: Callable[[], None]) -> bool:
    """Whether it could be done; not while the file is in use."""
    try:
        act()
    except OSError as error:
        if getattr(error, "winerror", None) not in _IN_USE:
            raise
        return False
    return True
