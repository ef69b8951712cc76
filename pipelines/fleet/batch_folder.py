"""The folder of a batch: its results, and the place where unfinished ones are made.

A result is made in a folder of its attempt, and moved out when it is complete. So a file in the folder of the
batch is whole, whenever the process ends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from ..errors import RequestError
from ..files.on_disk import move_into_place
from ..video.output import SUFFIXES, sidecar

__all__ = ["AttemptRow", "BatchFolder"]

_UNFINISHED = ".unfinished"
_CHUNK = 1 << 20
_GLANCE_S = 0.2  # `batch status` may look at the lock meanwhile


class AttemptRow(Protocol):
    """A row of a journal: the columns that say where its files are."""

    @property
    def name(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def file(self) -> str | None: ...
    @property
    def size_bytes(self) -> int | None: ...


class BatchFolder:
    """The folder `path`, which is made. Raises OSError where it cannot be written."""

    JOURNAL = "batch.sqlite"

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    @property
    def journal(self) -> Path:
        return self.path / self.JOURNAL

    @staticmethod
    def lock_of(path: Path) -> Path:
        """Return the file that is locked while a process runs the batch in `path`."""
        return path / "batch.lock"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from working in the folder. Raises RequestError if one does.

        The system releases the lock however the process ends.
        """
        lock = FileLock(self.lock_of(self.path))
        try:
            lock.acquire(timeout=_GLANCE_S)
        except Timeout:
            fix = "wait until it has ended, or give another folder"
            raise RequestError.of("--output", f"another batch runs in {self.path}", fix) from None
        try:
            yield
        finally:
            lock.release()

    def attempt(self, row: AttemptRow) -> Path:
        """Make and return the folder in which an attempt of a row makes its files."""
        place = self._attempt(row)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def publish(self, row: AttemptRow) -> bool:
        """Move the files of a row that is `publishing` into their places. Doing it twice does no harm.

        Returns whether they are there: not if somebody removed them meanwhile. Raises OSError.
        """
        assert row.file is not None  # noqa: S101 - the journal knows it from this state on
        place = self.path / row.file
        for file in (sidecar(place), place):  # a video that can be seen has its receipt
            made = self._attempt(row) / file.name
            if made.exists():
                move_into_place(made, file)
        return self.holds(row)

    def holds(self, row: AttemptRow) -> bool:
        """Return whether the result of a row is in its place, as it was written, with its receipt."""
        if row.file is None:
            return False
        place = self.path / row.file
        try:
            return place.stat().st_size == row.size_bytes and sidecar(place).is_file()
        except OSError:
            return False

    def require_free(self, row: AttemptRow) -> None:
        """Raise RequestError if a file that is not of this batch has the name of a row's result."""
        for suffix in (".json", *SUFFIXES):
            file = self.path / f"{row.name}{suffix}"
            if file.exists():
                fix = "give another folder, or move the file away"
                raise RequestError.of("--output", f"{file} exists, and is not of this batch", fix)

    def discard(self, row: AttemptRow) -> None:
        """Remove what this attempt of a row made."""
        shutil.rmtree(self._attempt(row), ignore_errors=True)

    def clean(self, row: AttemptRow) -> None:
        """Remove what unfinished attempts of a row left."""
        self.clean_all({row.name})

    def clean_all(self, names: Set[str]) -> None:
        """Remove what unfinished attempts of the rows with these names left."""
        for place in (self.path / _UNFINISHED).glob("*.*"):
            if place.suffix[1:].isdecimal() and place.stem in names:
                shutil.rmtree(place, ignore_errors=True)

    def close(self) -> None:
        """Remove what is empty of the unfinished results: a failed row may have left latents."""
        unfinished = self.path / _UNFINISHED
        for place in (*unfinished.glob("*/"), unfinished):
            with suppress(OSError):  # not empty, or not there
                place.rmdir()

    def _attempt(self, row: AttemptRow) -> Path:
        return self.path / _UNFINISHED / f"{row.name}.{row.attempt}"


def sync(file: Path) -> None:
    """Write the content of a file to the disk, so that a loss of power after a commit does not lose it."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
