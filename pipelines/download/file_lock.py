"""A lock that processes share, waited for with an eye on the user's stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import DownloadError

__all__ = ["file_locked"]

log = logging.getLogger(__name__)

_POLL_S = 0.5  # how often a wait for another process checks for a stop


@contextmanager
def file_locked(file: Path, check: Callable[[], None], *, busy: str, unusable: str) -> Iterator[None]:
    """Hold the lock `file`, whose folder is made. `check` is called while waiting, and may end it by raising.

    busy:     what another process does that holds the lock, for the log.
    unusable: begins the message of the DownloadError that is raised when the lock cannot be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        waited = False
        while True:
            check()
            try:
                lock.acquire(timeout=_POLL_S)
                break
            except Timeout:
                if not waited:
                    log.info("another process %s; waiting for it", busy)
                waited = True
    except OSError as error:
        raise DownloadError(f"{unusable}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
