"""The download folder. It keeps each content once, under a readable name.

`index.json` beside the files records which address gave which file. Any file may be deleted at any time; a
missing one is downloaded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DownloadError
from ..files.file_names import is_device_name
from ..files.on_disk import FileInUseError, move_into_place, remove, write_whole
from .file_lock import file_locked
from .hub import ADAPTER_CONFIG

__all__ = ["Origin", "Store", "origin_of"]

log = logging.getLogger(__name__)

_INDEX = "index.json"


@dataclass(frozen=True)
class Origin:
    """The origin of a kept file. address: without secrets. revision: the commit of a repository."""

    address: str
    sha256: str
    revision: str | None = None


@dataclass(frozen=True)
class Store:
    """The files of one download folder. It need not exist. Raises DownloadError if it cannot be written."""

    folder: Path

    def find(self, key: str) -> tuple[Path, Origin] | None:
        """Return the file downloaded for `key`, or None if there is none or it has changed since."""
        entry = self._entries().get(_digest(key))
        return None if entry is None else self._kept(entry)

    def with_content(self, sha256: str) -> Path | None:
        """Return a file with this content, from any address, or None."""
        for entry in self._entries().values():
            if entry.origin.sha256 == sha256 and (found := self._kept(entry)):
                return found[0]
        return None

    def part(self, key: str) -> Path:
        """Return the partial file for `key`. The caller must hold the lock."""
        return self.folder / f"{_digest(key)}.part"

    def add(self, part: Path, name: str, sha256: str) -> Path:
        """Move a complete file here, named by `name` and hash. Return it, or an equal kept file."""
        file = self.with_content(sha256)
        if file is not None:
            remove(part)
            return file
        for number in ("", *(f"-{number}" for number in range(2, 10))):
            file = self.folder / f"{_stem(name)}.{sha256[:12]}{number}.safetensors"
            try:
                move_into_place(part, file)
            except FileInUseError:  # a loaded model maps what was there before it was changed
                continue
            return file
        raise FileInUseError(self.folder)

    def put_beside(self, file: Path, config: str) -> str:
        """Write the `adapter_config.json` of a kept file under the file's own name. Return that name.

        Raises DownloadError if equal weights were kept with another one.
        """
        beside = file.with_suffix(f".{ADAPTER_CONFIG}")
        if beside.is_file() and beside.read_text(encoding="utf-8") != config:
            raise DownloadError(
                f"{beside}: these weights are kept with another {ADAPTER_CONFIG} than this repository has; "
                "delete that file to use the new one"
            )
        write_whole(beside, config)
        return beside.name

    def remember(self, key: str, file: Path, origin: Origin, config: str = "") -> None:
        """Record in the index that `key` gave `file`. The caller must hold the lock.

        config: the name from `put_beside`; "" for a file without.
        """
        status = file.stat()
        entry = _Entry(file.name, status.st_size, status.st_mtime_ns, origin, config)
        entries = {**self._entries(), _digest(key): entry}
        text = json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1)
        write_whole(self.folder / _INDEX, text)

    def locked(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock of the folder. `check` is called while waiting, and may end the wait by raising."""
        return file_locked(
            self.folder / "download.lock",
            check,
            busy=f"downloads into {self.folder}",
            unusable=f"{self.folder}: the download folder cannot be used",
        )

    def _kept(self, entry: _Entry) -> tuple[Path, Origin] | None:
        file = self.folder / entry.file
        try:
            status = file.stat()
        except OSError:
            return None
        if entry.config and not (self.folder / entry.config).is_file():
            return None
        if (status.st_size, status.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
            log.warning("%s was changed after its download, so it is not used", file)
            return None
        return file, entry.origin

    def _entries(self) -> dict[str, _Entry]:
        file = self.folder / _INDEX
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return {key: _Entry.of(values) for key, values in content.items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DownloadError(
                f"{file}: damaged ({error}); delete it, then files are downloaded again"
            ) from error


def origin_of(file: Path) -> Origin | None:
    """Return the origin of a file, or None if it is in no download folder or was changed after download."""
    if not (file.parent / _INDEX).is_file():
        return None
    store = Store(file.parent)
    try:
        entries = store._entries()
    except DownloadError:
        return None  # somebody else's index.json
    named = (store._kept(entry) for entry in entries.values() if entry.file == file.name)
    return next((found[1] for found in named if found is not None), None)


@dataclass(frozen=True)
class _Entry:
    file: str
    size_bytes: int
    mtime_ns: int
    origin: Origin = field(repr=False)
    config: str = ""  # missing in older indexes

    @classmethod
    def of(cls, values: Any) -> _Entry:
        name, config = values["file"], values.get("config", "")
        if Path(name).name != name or not name.endswith(".safetensors") or Path(config).name != config:
            raise ValueError(f"{name!r} or {config!r} is not a file of this folder")
        return cls(name, values["size_bytes"], values["mtime_ns"], Origin(**values["origin"]), config)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _stem(name: str) -> str:
    """Return a name from outside without characters and names that are unsafe on some system."""
    last = re.split(r"[/\\]", name)[-1].removesuffix(".safetensors")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-")[:60] or "file"
    return f"{stem}-file" if is_device_name(stem) else stem
