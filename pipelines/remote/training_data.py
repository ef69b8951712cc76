"""Makes the archive of a training from a folder or a ZIP file, after looking at what is in it."""

from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import RequestError
from ..video.local_file import LocalFile, file_at

__all__ = ["Dataset", "read_dataset"]

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_VIDEOS = frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi"})
_CAPTION = ".txt"
_HIDDEN = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what file managers leave
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the first that ZIP has: equal folders make equal archives
_FIELD = "dataset"


@dataclass(frozen=True)
class Dataset:
    """What a training learns from. file: the archive that is uploaded."""

    file: LocalFile
    images: int
    videos: int
    captions: int

    def text(self) -> str:
        counts = (
            (self.videos, "videos"),
            (self.images, "images"),
            (self.captions, "captions"),
        )
        what = ", ".join(f"{count} {name}" for count, name in counts)
        size = f"{self.file.size_bytes / 1e6:.1f} MB"
        return f"{self.file.name}: {what}, {size}, sha256 {self.file.sha256}"

    def as_dict(self) -> dict[str, object]:
        """Return what the receipt says of it."""
        counts = {"images": self.images, "videos": self.videos, "captions": self.captions}
        return {"sha256": self.file.sha256, "size_bytes": self.file.size_bytes, **counts}


def read_dataset(source: Path, work: Path) -> Dataset:
    """Return the dataset in a folder or a ZIP file of images and videos, each with or without a caption of
    its name in a .txt file.

    work: an empty folder for the archive of a folder; it must exist until the archive is uploaded.

    Raises RequestError on `dataset` that names what does not belong there.
    """
    if source.is_dir():
        return _dataset(file_at(_archive(source, work), _FIELD), _names_in(source))
    try:
        with zipfile.ZipFile(source) as archive:
            names = [PurePosixPath(item.filename) for item in archive.infolist() if not item.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise RequestError.of(_FIELD, f"{source}: {error}", "give a folder or a ZIP file") from None
    return _dataset(file_at(source, _FIELD), _shown(names))


def _names_in(folder: Path) -> list[PurePosixPath]:
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return _shown([PurePosixPath(path.as_posix()) for path in files])


def _shown(names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    return [name for name in names if not any(part.startswith(".") or part in _HIDDEN for part in name.parts)]


def _dataset(file: LocalFile, names: Sequence[PurePosixPath]) -> Dataset:
    kinds: Counter[str] = Counter()
    media: set[PurePosixPath] = set()
    for name in names:
        suffix = name.suffix.lower()
        kind = "images" if suffix in _IMAGES else "videos" if suffix in _VIDEOS else None
        if kind is not None:
            media.add(name.with_suffix(""))
            kinds[kind] += 1
        elif suffix != _CAPTION:
            raise RequestError.of(_FIELD, f"{name} is no image, video or caption", "take it out")
    if not media:
        raise RequestError.of(_FIELD, "no image and no video in it", "give a folder or a ZIP file with some")
    captions = [name for name in names if name.suffix.lower() == _CAPTION]
    for caption in captions:
        if caption.with_suffix("") not in media:
            found = f"{caption} is a caption of no file"
            raise RequestError.of(_FIELD, found, "give it the name of its image or video")
    return Dataset(file, kinds["images"], kinds["videos"], len(captions))


def _archive(folder: Path, work: Path) -> Path:
    """Write the files of a folder to a ZIP file, in one order and without dates. Nothing is compressed: media
    are already.
    """
    place = work / f"{folder.resolve().name or 'dataset'}.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for name in _names_in(folder):
            entry = zipfile.ZipInfo(name.as_posix(), _NO_DATE)
            try:
                with (folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as to:
                    shutil.copyfileobj(source, to, 2**20)
            except OSError as error:
                found = f"{name}: {error.strerror or error}"
                raise RequestError.of(_FIELD, found, "give files that can be read") from None
    return place
