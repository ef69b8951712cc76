"""Names a sequence of numbered pictures that a node writes, and shows them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .comfy_interface import ExecutionBlocker, ui
from .files import new_video_file

__all__ = ["SEQUENCES", "PictureSequence", "new_pictures"]

SEQUENCES = ("png", "exr")

_NO_VIDEO = ExecutionBlocker("The result is a sequence of pictures, not a video; choose another container.")
_MOST_SHOWN = 64


class PictureSequence(NamedTuple):
    """Pictures to be written. path: their name, with %05d for the number. listed: the browser's folder."""

    path: Path
    listed: ui.SavedResult

    @property
    def kept(self) -> Path:
        return self.path.parent

    def output(self) -> ExecutionBlocker:
        """Return the value of a video output: ComfyUI reads no pictures as a video."""
        return _NO_VIDEO

    def preview(self) -> ui.SavedImages | None:
        """Return the first pictures. A browser shows no EXR."""
        if self.path.suffix == ".exr":
            return None
        names = sorted(file.name for file in self.kept.iterdir())[:_MOST_SHOWN]
        folder = f"{self.listed.subfolder}/{self.kept.name}".lstrip("/")
        return ui.SavedImages([ui.SavedResult(name, folder, self.listed.type) for name in names])


def new_pictures(prefix: str, save: bool, width: int, height: int, suffix: str) -> PictureSequence:
    """Return the pictures of a new folder, which `prefix` names as `new_video_file` says."""
    file, listed = new_video_file(prefix, save, width, height, suffix)
    return PictureSequence(file.with_suffix("") / f"frame_%05d.{suffix}", listed)
