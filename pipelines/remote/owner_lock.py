"""Which process works on a job. An owner is a process that holds a lock file.

The operating system releases the lock however the process ends. So a job never stays with a dead process, and
is never taken from one that is only slow or asleep.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import JournalError

__all__ = ["OwnerLock"]

_OLD_S = 3600.0


class OwnerLock:
    """The lock file of this process, held until it ends or calls `retire`.

    folder: of the lock files of all owners. Raises JournalError if it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.token = uuid.uuid4().hex
        self._folder = folder
        self._lock = FileLock(self._file(self.token), thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._tidy()
            self._lock.acquire(timeout=0)
        except (OSError, Timeout) as error:
            raise JournalError(f"{folder}: cannot keep a lock file there: {error}") from error

    def is_alive(self, token: str) -> bool:
        """Return whether the owner with this token still holds its lock. If not, delete its file."""
        if token == self.token:
            return True
        file = self._file(token)
        if not file.exists():
            return False
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        self._forget(token)
        return False

    def retire(self) -> None:
        """Release the lock, so that other processes may continue the jobs."""
        self._lock.release()
        self._forget(self.token)

    def _forget(self, token: str) -> None:
        with suppress(PermissionError):  # Windows, while another process checks it: it is deleted later
            self._file(token).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Delete the files of killed processes. Skip young files: one may be about to be locked."""
        for file in self._folder.glob("*.lock"):
            with suppress(FileNotFoundError):  # another process tidies too
                if time.time() - file.stat().st_mtime > _OLD_S:
                    self.is_alive(file.stem)

    def _file(self, token: str) -> Path:
        return self._folder / f"{token}.lock"
