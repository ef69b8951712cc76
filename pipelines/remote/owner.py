"""Who works on a job. An owner is a process that holds a lock file: the system frees it however the process
ends, so that a job is never left to a dead owner, nor taken from one that was only slow or asleep.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import JournalError

__all__ = ["Owner"]

_OLD_S = 3600.0


class Owner:
    """This process, as long as it lives or until `retire`. folder: where the lock files of all owners lie."""

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
        """Whether the owner with this token still holds its lock. Tidies up after one that does not."""
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
        """Give the lock back; others may go on with the jobs."""
        self._lock.release()
        self._forget(self.token)

    def _forget(self, token: str) -> None:
        with suppress(PermissionError):  # Windows, and another process asks about it now: it goes later
            self._file(token).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what killed processes left. Young files are left alone: one may be about to be locked."""
        for file in self._folder.glob("*.lock"):
            with suppress(FileNotFoundError):  # another process tidies too
                if time.time() - file.stat().st_mtime > _OLD_S:
                    self.is_alive(file.stem)

    def _file(self, token: str) -> Path:
        return self._folder / f"{token}.lock"
