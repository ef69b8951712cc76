"""Writes results beside their place, and moves them there when they are complete.

Two runs may have one output. Each writes under a name of its own, so neither sees a partial file of the
other, and the one that completes last wins. A video and its receipt take their places as one pair.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from .on_disk import discard, move_into_place, remove

__all__ = ["StagingError", "require_free", "staged_file", "staged_pair"]

log = logging.getLogger(__name__)

_ALIVE = "alive.lock"  # in a folder of a run; the system frees it when the process ends, however that is


class StagingError(OSError):
    """A pair could not be staged or published. Other errors of the work in between are not this one."""


_Version = tuple[int, int, int] | None  # what changes when a file is replaced; None where there is none


def require_free(place: Path) -> None:
    """Raise OSError when no file can be written to `place`. Leaves nothing behind, and changes no file."""
    discard(_unique(place.parent))
    with suppress(FileNotFoundError):
        place.lstat()
        move_into_place(place, place)  # Windows refuses it while somebody reads the file


@contextmanager
def staged_file(place: Path) -> Iterator[Path]:
    """Yield an empty file beside `place` that no other run has, and move it to `place` at the end.

    After an exception there is no new file, and an older one stays. Raises OSError.
    """
    before = _version(place)
    part = _unique(place.parent)
    try:
        yield part
        with _folder_lock(place.parent):
            _tell_if_replaced(place, before)
            move_into_place(part, place)
    finally:
        discard(part)


@contextmanager
def staged_pair(place: Path, companion: Path) -> Iterator[Path]:
    """Yield where to write instead of `place`: the same name, in a folder that no other run has.

    At the end that file, and the one named as `companion` beside it, take their places. At no time does a
    companion lie beside a file that it does not belong to. After an exception both places are as before.
    Folders of the same place are removed whose process was killed.

    Raises StagingError when the folder cannot be made or the files cannot be moved.
    """
    before = _version(place)
    folder, alive = _new_folder(place)
    try:
        yield folder / place.name
        _publish(folder, place, companion, before)
    finally:
        alive.release()
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder(place: Path) -> tuple[Path, FileLock]:
    """Make a folder for what becomes `place`. Returns it with the lock that this process has on it."""
    named = f".wan-duet-{hashlib.sha256(place.name.encode()).hexdigest()[:16]}-"
    try:
        with _folder_lock(place.parent):  # so that nobody sees the folder before it is locked
            for old in place.parent.glob(f"{named}*.part"):
                dead = _lock_of(old)
                if (old / _ALIVE).is_file() and _locked(dead):
                    dead.release()  # Windows removes no open file
                    shutil.rmtree(old, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=named, suffix=".part", dir=place.parent))
            alive = _lock_of(folder)
            _locked(alive)
    except OSError as error:
        raise StagingError(*error.args) from error
    return folder, alive


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / _ALIVE, thread_local=False)


def _locked(lock: FileLock) -> bool:
    """Take a lock. Returns whether it was free; not where a file system has no locks."""
    try:
        lock.acquire(timeout=0)
    except (OSError, NotImplementedError):
        return False
    return True


def _publish(folder: Path, place: Path, companion: Path, before: _Version) -> None:
    try:
        with _folder_lock(place.parent):
            _tell_if_replaced(place, before)
            remove(companion)  # it belongs to the file that is replaced now
            for target in (place, companion):
                if (folder / target.name).exists():
                    move_into_place(folder / target.name, target)
    except OSError as error:
        raise StagingError(*error.args) from error


def _unique(folder: Path) -> Path:
    """Create an empty file, with the permissions that any new file gets there."""
    part = folder / f".wan-duet-{uuid.uuid4().hex}.part"
    part.touch(exist_ok=False)
    return part


def _version(file: Path) -> _Version:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _tell_if_replaced(place: Path, before: _Version) -> None:
    now = _version(place)
    if now is not None and now != before:
        log.warning(
            "another run wrote %s in the meantime; this run was complete later, so its file replaces it",
            place,
        )


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time change the files in `folder`, for the moment of a few renames."""
    if sys.platform == "win32":
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
        with FileLock(Path(tempfile.gettempdir()) / f"wan-duet-{name}.lock"):
            yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                raise
            log.warning("%s: this file system has no locks; two runs with one output may mix", folder)
        yield
    finally:
        os.close(handle)
