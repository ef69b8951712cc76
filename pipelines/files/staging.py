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

    Raises StagingError when the folder cannot be made or the files cannot be moved.
    """
    before = _version(place)
    folder = _new_folder(place.parent)
    try:
        yield folder / place.name
        _publish(folder, place, companion, before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder(beside: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=".wan-duet-", suffix=".part", dir=beside))
    except OSError as error:
        raise StagingError(*error.args) from error


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
