"""Where a node may write, and what it writes into a file beside the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import folder_paths
from comfy.cli_args import args

from .comfy_interface import ExecutionBlocker, InputImpl, io, ui

__all__ = [
    "EMBED_METADATA",
    "VideoFile",
    "kept_latents_folder",
    "new_video_file",
    "shown_video",
    "workflow_tags",
]

EMBED_METADATA = (
    not args.disable_metadata
)  # --disable-metadata: the user wants nothing about the making in a file


_NO_VIDEO = ExecutionBlocker("The result is an image, not a video; connect the images output.")
_PICTURES = (".png", ".jpg")


class VideoFile(NamedTuple):
    """A video, or a picture, to be written, and how the browser finds it."""

    path: Path
    listed: ui.SavedResult

    def output(self) -> InputImpl.VideoFromFile | ExecutionBlocker:
        """The value of a video output."""
        return _NO_VIDEO if self.path.suffix in _PICTURES else InputImpl.VideoFromFile(str(self.path))

    def preview(self) -> ui.PreviewVideo | ui.SavedImages:
        picture = self.path.suffix in _PICTURES
        return ui.SavedImages([self.listed]) if picture else ui.PreviewVideo([self.listed])


def new_video_file(prefix: str, save: bool, width: int, height: int, container: str = "mp4") -> VideoFile:
    """container: how the name ends, without the dot; also of a picture.

    The next free name for `prefix` in the output folder, or in temp when it is not to be saved.

    ComfyUI refuses a prefix that leads out of that folder, and fills in %width%, %height% and dates.
    """
    kind = io.FolderType.output if save else io.FolderType.temp
    root = folder_paths.get_output_directory() if save else folder_paths.get_temp_directory()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    file = f"{name}_{counter:05}_.{container}"
    return VideoFile(Path(folder) / file, ui.SavedResult(file, subfolder, kind))


def shown_video(file: Path) -> VideoFile:
    """A video that lies in the output folder."""
    place = file.resolve().relative_to(Path(folder_paths.get_output_directory()).resolve())
    subfolder = "" if place.parent == Path() else place.parent.as_posix()
    return VideoFile(file, ui.SavedResult(file.name, subfolder, io.FolderType.output))


def kept_latents_folder() -> Path:
    """Where finished latents are kept: in temp, which ComfyUI empties when it starts."""
    return Path(folder_paths.get_temp_directory()) / "wan_duet_latents"


def workflow_tags(hidden: io.HiddenHolder) -> dict[str, str]:
    """The graph as core's SaveVideo writes it, so that dropping the video on the canvas opens it again."""
    if not EMBED_METADATA:
        return {}
    tags = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        tags["prompt"] = hidden.prompt
    return {name: json.dumps(value) for name, value in tags.items()}
