"""Finds or downloads the LoRA file that a request names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...download.address import HubFile, read_address
from ...errors import DownloadError, LoraError
from ...files.moved_file import moved_to
from ...progress import Progress, Silent
from ...request.lora_weight import place_of
from .metadata import ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from ...download.downloads import Downloads

__all__ = ["LoraSources"]


@dataclass(frozen=True)
class LoraSources:
    """Which values of `path` are allowed.

    folders:   names are searched in these, and no file outside of them is read; None allows any path.
    embedded:  files that come with the pack, by their full name ("toy/NAME").
    downloads: keeps addresses and repositories; None refuses both.
    nearby:    where any path is allowed, it and its bare name are searched in these first.
    """

    folders: Sequence[Path] | None = None
    embedded: Mapping[str, Path] = field(default_factory=dict)
    downloads: Downloads | None = None
    nearby: Sequence[Path] = ()

    def find(self, path: str, weight_name: str | None = None, progress: Progress | None = None) -> Path:
        """Return the file of a LoRA. Download it if `path` is an address or repository that is not kept yet.

        A slash and a backslash in names are equal. Raises LoraError if there is no such file, if it is
        outside the folders, or if it cannot be downloaded, and what `progress.check` raises.
        """
        place = place_of(path)
        if place in ("address", "repository"):
            return self._fetched(path, weight_name, progress or Silent())
        if weight_name is not None:
            raise LoraError(
                f"loras: weight_name chooses a file of a repository, and {path[:200]} is a file; leave it out"
            )
        if place == "embedded":
            if path in self.embedded:
                return self.embedded[path]
            known = (
                f"give one of {', '.join(self.embedded)}" if self.embedded else "this installation has none"
            )
            raise LoraError(f"loras: {path[:200]} is not an embedded LoRA; {known}")
        return _any_file(path, self.nearby) if self.folders is None else _local_file(path, self.folders)

    def _fetched(self, path: str, weight_name: str | None, progress: Progress) -> Path:
        if self.downloads is None:
            raise LoraError(
                "loras: this is an address or a repository, but downloads are off here; give a file"
            )
        try:
            wanted = HubFile(path) if place_of(path) == "repository" else read_address(path)
            if weight_name is not None:
                if not isinstance(wanted, HubFile) or wanted.file is not None:
                    raise LoraError(
                        f"loras: weight_name chooses a file of a repository, and {wanted.shown} is the "
                        "address of a file; leave it out"
                    )
                wanted = replace(wanted, file=weight_name)
            return self.downloads.get(wanted, progress)
        except DownloadError as error:
            raise LoraError(f"loras: {error}") from error


def _any_file(path: str, nearby: Sequence[Path]) -> Path:
    """Return a file anywhere. A folder of PEFT stands for the weights in it."""
    bare = path.replace("\\", "/").rpartition("/")[2]
    for named in (*(os.path.join(folder, name) for folder in nearby for name in (path, bare)), path):
        for place in (named, os.path.join(named, ADAPTER_WEIGHTS)):
            if os.path.isfile(place):
                return Path(place).resolve()
    where = ", ".join(["here", *(f"in {folder}" for folder in nearby)])
    raise LoraError(f"loras: {path[:200]} not found {where}; give the path of a .safetensors file")


def _local_file(path: str, folders: Sequence[Path]) -> Path:
    """Return a file in one of the folders. A folder of PEFT stands for the weights in it."""
    name = path.replace("\\", "/")
    for folder in folders:
        places = (folder / name, folder / name / ADAPTER_WEIGHTS)
        place = next((place for place in places if os.path.isfile(place)), None)
        if place is None:
            continue
        root, file = folder.resolve(), place.resolve()
        if not file.is_relative_to(root):
            raise LoraError(f"loras: {path[:200]} is outside {folder}; copy the file into that folder")
        return file
    known = [file.relative_to(folder).as_posix() for folder in folders for file in folder.rglob("*")]
    here = ", ".join(map(str, folders))
    raise LoraError(f"loras: {path[:200]} not found in {here}; put the file there{moved_to(path, known)}")
