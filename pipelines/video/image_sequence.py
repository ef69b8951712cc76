"""Writes frames as numbered pictures, PNG or EXR, into a folder. All of them appear, or none."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import MediaError
from ..files.on_disk import move_into_place
from .exr_frame import ExrEncoder
from .frame_stream import Frame
from .frame_writer import FileSpec
from .image import image_bytes

__all__ = ["ImageSequence", "SequencePlace", "require_no_frames", "sequence_place", "staged_sequence"]

_NUMBER = re.compile(r"%(?:0(\d+))?d")
_IN_A_FOLDER = "frame_%05d"


@dataclass(frozen=True)
class SequencePlace:
    """Where numbered pictures go. pattern: their name, with %05d for the number, which starts at 1."""

    folder: Path
    pattern: str

    def name(self, number: int) -> str:
        return _NUMBER.sub(lambda found: str(number).zfill(int(found[1] or 0)), self.pattern)

    def existing(self) -> list[str]:
        """Return the names in the folder that a sequence could have."""
        before, after = (re.escape(part) for part in _split(self.pattern))
        ours = re.compile(before + r"\d+" + after)
        return sorted(name for name in _listed(self.folder) if ours.fullmatch(name))


def sequence_place(path: Path, suffix: str) -> SequencePlace:
    """Return the place for `name_%05d.png`, or for a folder. suffix: without the dot.

    Raises MediaError for the name of one picture, or one with two numbers.
    """
    if path.suffix.lower() != f".{suffix}" or path.is_dir():
        return SequencePlace(path, f"{_IN_A_FOLDER}.{suffix}")
    if len(_NUMBER.findall(path.name)) != 1:
        raise MediaError(
            f"{path}: a .{suffix} file holds one frame; give {path.stem}_%05d{path.suffix}, or a folder and "
            f"--codec {suffix}"
        )
    return SequencePlace(path.parent, path.name)


def require_no_frames(place: SequencePlace) -> None:
    """Raise MediaError where the folder cannot be written, or holds pictures that would mix with ours."""
    found = place.existing()
    if found:
        raise MediaError(
            f"{place.folder} already holds {found[0]}{' and others' if found[1:] else ''}; give another "
            "folder or name, or remove them"
        )
    home = place.folder if place.folder.exists() else place.folder.parent
    if not home.is_dir() or not os.access(home, os.W_OK):
        raise MediaError(f"cannot write into {home}; a folder that exists and is writable works")


@contextmanager
def staged_sequence(place: SequencePlace) -> Iterator[Path]:
    """Yield a new folder beside the place. At the end its pictures take their places.

    After an exception there are none. Raises OSError, and MediaError as `require_no_frames`.
    """
    require_no_frames(place)
    home = place.folder if place.folder.exists() else place.folder.parent
    part = home / f".wan-duet-{uuid.uuid4().hex}.part"
    part.mkdir()
    try:
        yield part
        if home != place.folder:
            move_into_place(part, place.folder)  # which fails where another run has made it in the meantime
            return
        require_no_frames(place)
        for picture in sorted(part.iterdir()):
            move_into_place(picture, place.folder / picture.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class ImageSequence:
    """Writes each frame as a picture into `folder`. The tags go into the first PNG."""

    def __init__(self, folder: Path, place: SequencePlace, spec: FileSpec) -> None:
        self._folder, self._place, self._tags = folder, place, spec.tags
        self._exr = ExrEncoder(spec) if spec.form.codec.name == "exr" else None

    def write(self, frame: Frame, index: int) -> None:
        content = (
            image_bytes(frame, "png", {} if index else self._tags)
            if self._exr is None
            else self._exr.encode(frame, index)
        )
        (self._folder / self._place.name(index + 1)).write_bytes(content)

    def finish(self, check: Callable[[], None]) -> None:
        """Do nothing: every picture is complete."""


def _split(pattern: str) -> tuple[str, str]:
    found = _NUMBER.search(pattern)
    assert found is not None  # noqa: S101  a place is made from a name with a number
    return pattern[: found.start()], pattern[found.end() :]


def _listed(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []
