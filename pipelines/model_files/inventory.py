"""Which of some weight files are here, where the others belong, and whether the disk has room for them."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from ..download.partial_file import size_of
from ..errors import DownloadError
from .catalogue import FOLDERS, ModelFile

__all__ = [
    "FOLDERS",
    "Folders",
    "Found",
    "comfyui_folders",
    "find_files",
    "free_bytes",
    "part_of",
    "require_room",
    "to_fetch",
]

Folders = Mapping[str, Sequence[Path]]  # {folder of ComfyUI: where its files are}

_OLDER_NAMES = {"diffusion_models": "unet", "text_encoders": "clip"}  # folder_paths.py of ComfyUI 0.33
_MARGIN = 256 * 2**20  # bytes that stay free


@dataclass(frozen=True)
class Found:
    """The state of one file on this machine.

    place:      where it is, or where it belongs.
    state:      "here", "partly" downloaded, "missing", or "other": a file of this name with another size.
    have_bytes: size of the part that is downloaded.
    """

    file: ModelFile
    place: Path
    state: Literal["here", "partly", "missing", "other"]
    have_bytes: int = 0

    @property
    def left_bytes(self) -> int:
        return self.file.size_bytes - self.have_bytes if self.state in ("partly", "missing") else 0


def comfyui_folders(models: Path) -> Folders:
    """Return the folders in the models folder of a ComfyUI. Does not read its extra_model_paths.yaml."""
    older = {name: [models / folder] for name, folder in _OLDER_NAMES.items()}
    return {name: [models / name, *older.get(name, [])] for name in FOLDERS}


def find_files(files: Iterable[ModelFile], folders: Folders) -> list[Found]:
    """Find each file by its name, also in subfolders. Reads no file, and lists each folder once."""
    listed = cache(_listed)
    return [_look(file, folders[file.folder], listed) for file in files]


def to_fetch(found: Iterable[Found]) -> list[Found]:
    """Return those of `found` that must be downloaded.

    Raises DownloadError if a file of the same name has another size.
    """
    wanted = []
    for item in found:
        if item.state == "other":
            raise DownloadError(
                f"{item.place}: has {item.place.stat().st_size} bytes, the published file of this name has "
                f"{item.file.size_bytes}; rename or remove yours if you want that one"
            )
        if item.state != "here":
            wanted.append(item)
    return wanted


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk on which `folder` is or will be."""
    return shutil.disk_usage(_nearest(folder)).free


def require_room(found: Iterable[Found], free: Callable[[Path], int] = free_bytes) -> None:
    """Raise DownloadError unless each disk has room for its files and 256 MiB more."""
    left: dict[int, int] = defaultdict(int)
    folder_on: dict[int, Path] = {}
    for item in found:
        disk = _nearest(item.place.parent).stat().st_dev
        left[disk] += item.left_bytes
        folder_on[disk] = item.place.parent
    for disk, needed in left.items():
        has = free(folder_on[disk])
        if needed and needed + _MARGIN > has:
            raise DownloadError(
                f"{folder_on[disk]}: {has / 1e9:.1f} GB are free, the files need {needed / 1e9:.1f} GB and "
                f"{_MARGIN / 1e9:.1f} GB to spare; make room there, or choose a smaller size"
            )


def part_of(place: Path) -> Path:
    """Return the partial file of a download. ComfyUI does not list files with this suffix."""
    return place.with_name(f"{place.name}.part")


def _look(file: ModelFile, roots: Sequence[Path], listed: Callable[[Path], Mapping[str, Path]]) -> Found:
    home = next((root for root in roots if root.name == file.folder), roots[0])
    for root in (home, *roots):
        place = listed(root).get(file.name)
        if place is not None:
            same = place.stat().st_size == file.size_bytes
            return Found(file, place, "here" if same else "other")
    have = size_of(part_of(home / file.name))
    return Found(file, home / file.name, "partly" if have else "missing", min(have, file.size_bytes))


def _listed(root: Path) -> Mapping[str, Path]:
    """{name: file} below `root`. Of several files of one name, the first: one in `root` itself before all."""
    found: dict[str, Path] = {}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders.sort()
        for name in files:
            if name not in found and (place := Path(folder) / name).is_file():
                found[name] = place
    return found


def _nearest(folder: Path) -> Path:
    """`folder`, or the first folder around it that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())
