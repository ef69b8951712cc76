"""Returns the file at an address: from the download folder, or downloaded into it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

from ..errors import DownloadError
from ..files.on_disk import remove
from ..progress import Progress
from .address import HubFile, WebFile
from .fetch import DownloadLimits, fetch
from .hub import ChosenFile, choose_file, read_adapter_config
from .partial_file import hash_of
from .public_web import PublicTransport, proxy_of
from .store import Origin, Store
from .web import Web, tokens_from

__all__ = ["Downloads"]

log = logging.getLogger(__name__)

_LARGEST = 8 * 2**30  # bytes; rank 256 on every linear of a 14B expert is 5 GB in fp32


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Downloads:
    """Downloads the files that the user asked for, and keeps them in `folder`."""

    folder: Path
    web: Web = field(default_factory=Web)
    limits: DownloadLimits = field(default_factory=lambda: DownloadLimits(_LARGEST, _free_bytes))

    @classmethod
    def into(cls, folder: Path, environ: Mapping[str, str] = os.environ) -> Downloads:
        """Return downloads into `folder`, with the tokens and the proxy of `environ`."""
        return cls(folder, Web(PublicTransport(proxy=proxy_of(environ), any_port=True), tokens_from(environ)))

    def get(self, wanted: WebFile | HubFile, progress: Progress) -> Path:
        """Return the safetensors file at an address. Download it only if it is not kept yet.

        Raises DownloadError, and what `progress.check` raises.
        """
        store = Store(self.folder)
        if (kept := store.find(wanted.key)) is not None:
            log.info("%s: using %s, downloaded before", wanted.shown, kept[0].name)
            return kept[0]
        with store.locked(progress.check):
            if (kept := store.find(wanted.key)) is not None:  # by the process that had the lock
                return kept[0]
            try:
                return self._fetch(wanted, store, progress)
            except httpx.TransportError as error:
                raise DownloadError(f"{wanted.shown}: {error or type(error).__name__}; try again") from error

    def _fetch(self, wanted: WebFile | HubFile, store: Store, progress: Progress) -> Path:
        remote = _locate(wanted, self.web)
        config = "" if remote.chosen is None else read_adapter_config(remote.chosen, remote.shown, self.web)
        sha256, file = remote.sha256, store.with_content(remote.sha256)
        if file is None:
            log.info("downloading %s into %s", remote.shown, self.folder)
            part = store.part(wanted.key)
            name = fetch(remote.url, remote.shown, part, self.web, self.limits, progress)
            sha256 = hash_of(part, progress)
            if remote.sha256 not in ("", sha256):
                remove(part)
                raise DownloadError(
                    f"{remote.shown}: the downloaded file has sha256 {sha256[:12]}, but the repository lists "
                    f"{remote.sha256[:12]}; try again"
                )
            file = store.add(part, name or remote.shown.partition("?")[0], sha256)
        beside = store.put_beside(file, config) if config else ""
        store.remember(wanted.key, file, Origin(remote.shown, sha256, remote.commit), beside)
        return file


class _Remote(NamedTuple):
    """A file at a server. sha256: "" if it is not known before the download. chosen: of a repository."""

    url: str
    shown: str
    sha256: str = ""
    commit: str | None = None
    chosen: ChosenFile | None = None


def _locate(wanted: WebFile | HubFile, web: Web) -> _Remote:
    if isinstance(wanted, WebFile):
        return _Remote(wanted.url, wanted.shown)
    chosen = choose_file(wanted, web)
    return _Remote(chosen.url, f"{wanted.repository}/{chosen.file}", chosen.sha256, chosen.commit, chosen)
