"""Fetches published weight files into ComfyUI's folders: each whole and of the listed hash, or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ..download.address import shown
from ..download.fetch import DownloadLimits, fetch
from ..download.file_format import format_of
from ..download.file_lock import file_locked
from ..download.folders import data_folder
from ..download.partial_file import forget, hash_of, size_of
from ..download.public_web import PublicTransport, proxy_of
from ..download.web import Web, tokens_from
from ..errors import DownloadError
from ..files.on_disk import move_into_place
from ..progress import Progress
from .catalogue import Catalogue, ModelFile
from .inventory import Found, free_bytes, part_of, require_room, to_fetch

__all__ = ["get_files", "web_of"]

log = logging.getLogger(__name__)


def web_of(catalogue: Catalogue, environ: Mapping[str, str] = os.environ) -> Web:
    """The web as `catalogue` may use it, with the tokens and the proxy that `environ` holds."""
    allow = catalogue.allow_loopback
    transport = PublicTransport(proxy=proxy_of(environ), allow_loopback=allow, any_port=allow)
    return Web(transport, tokens_from(environ))


def get_files(
    found: Sequence[Found],
    web: Web,
    progress: Progress,
    *,
    free: Callable[[Path], int] = free_bytes,
    locks: Path | None = None,
) -> list[Path]:
    """Fetch each file that is not here, and return where those are now.

    A stop or an error keeps what has arrived: the next call continues it. free: bytes in a folder. locks:
    the folder of the lock files; two processes never fetch the same file at once.

    Raises DownloadError, and what `progress.check` raises.
    """
    wanted = to_fetch(found)
    require_room(wanted, free)
    for item in wanted:
        with _alone(item.place, locks or data_folder() / "downloads", progress.check):
            _get(item.file, item.place, web, free, _Named(progress, item.file.name))
    return [item.place for item in wanted]


def _get(file: ModelFile, place: Path, web: Web, free: Callable[[Path], int], progress: Progress) -> None:
    if place.exists():  # another process had the lock
        return
    part = part_of(place)
    if size_of(part) != file.size_bytes:  # else it was stopped between the last byte and the hash
        log.info("downloading %s into %s", shown(file.url), place.parent)
        limits = DownloadLimits(file.size_bytes, free, listed_bytes=file.size_bytes)
        fetch(file.url, shown(file.url), part, web, limits, progress, format_of(file.name))
    sha256 = hash_of(part, progress)
    if sha256 != file.sha256:
        forget(part)
        raise DownloadError(
            f"{shown(file.url)}: arrived with sha256 {sha256[:12]}, but {file.sha256[:12]} is listed; it was "
            f"not kept. Try again; if it stays so, the file was replaced there: look at {file.page}"
        )
    try:
        move_into_place(part, place)
    except OSError as error:
        raise DownloadError(f"{place}: cannot be written: {error.strerror or error}") from error


def _alone(place: Path, locks: Path, check: Callable[[], None]) -> AbstractContextManager[None]:
    """Wait until no other process downloads the file at `place`, whose folder is made. `check` may end it."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{place.parent}: cannot be written: {error.strerror or error}") from error
    name = hashlib.sha256(str(place).encode()).hexdigest()[:32]
    return file_locked(
        locks / f"{name}.lock",
        check,
        busy=f"downloads {place.name}",
        unusable=f"{locks}: the folder of the locks cannot be used",
    )


class _Named:
    """Progress whose stages name the file."""

    def __init__(self, inner: Progress, name: str) -> None:
        self._inner, self._name = inner, name
        self.advance, self.check = inner.advance, inner.check

    def begin(self, stage: str, total: int, unit: str) -> None:
        self._inner.begin(f"{stage} {self._name}", total, unit)
