"""Names the files that nodes write, and the metadata in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    "output_folder",
    "preview_of",
    "shown_video",
    "workflow_tags",
]

EMBED_METADATA = not args.disable_metadata  # --disable-metadata: write no receipt and no graph into files

_NO_VIDEO = ExecutionBlocker("The result is an image, not a video; connect the images output.")
_ANIMATED = (".gif", ".webp")
_IMAGES = (".png", ".jpg", *_ANIMATED)
_UNREADABLE = ExecutionBlocker("ComfyUI reads no animated WebP as a video; choose another container.")


class VideoFile(NamedTuple):
    """A video or image to be written. listed: how the browser finds it."""

    path: Path
    listed: ui.SavedResult

    @property
    def kept(self) -> Path:
        """What must still be there for the result to be used again."""
        return self.path

    def output(self) -> InputImpl.VideoFromFile | ExecutionBlocker:
        """Return the value of a video output: a blocker for what ComfyUI cannot read as a video."""
        if self.path.suffix == ".webp":
            return _UNREADABLE
        is_video = self.path.suffix not in _IMAGES or self.path.suffix in _ANIMATED
        return InputImpl.VideoFromFile(str(self.path)) if is_video else _NO_VIDEO

    def preview(self) -> ui.PreviewVideo | ui.SavedImages:
        return preview_of([self])


def preview_of(files: Sequence[VideoFile]) -> ui.PreviewVideo | ui.SavedImages:
    """Return what a node shows of its files, which are videos, or all images."""
    listed = [file.listed for file in files]
    suffix = files[0].path.suffix
    if suffix in _IMAGES:
        return ui.SavedImages(listed, is_animated=suffix in _ANIMATED)
    return ui.PreviewVideo(listed)


def new_video_file(prefix: str, save: bool, width: int, height: int, container: str = "mp4") -> VideoFile:
    """Return the next free file for `prefix`, in the output folder if `save`, else in temp.

    container: suffix without the dot, also of an image.

    ComfyUI rejects a prefix that leads out of the folder, and replaces %width%, %height% and dates.
    """
    kind = io.FolderType.output if save else io.FolderType.temp
    root = folder_paths.get_output_directory() if save else folder_paths.get_temp_directory()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    file = f"{name}_{counter:05}_.{container}"
    return VideoFile(Path(folder) / file, ui.SavedResult(file, subfolder, kind))


def shown_video(file: Path) -> VideoFile:
    """Return a file in the output folder as a VideoFile."""
    place = file.resolve().relative_to(Path(folder_paths.get_output_directory()).resolve())
    subfolder = "" if place.parent == Path() else place.parent.as_posix()
    return VideoFile(file, ui.SavedResult(file.name, subfolder, io.FolderType.output))


def output_folder() -> Path:
    """Return ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory())


def kept_latents_folder() -> Path:
    """Return the folder of finished latents. It is in temp, which ComfyUI empties when it starts."""
    return Path(folder_paths.get_temp_directory()) / "wan_duet_latents"


def workflow_tags(hidden: io.HiddenHolder) -> dict[str, str]:
    """Return the graph as in core's SaveVideo, so that dropping the file on the canvas restores it."""
    if not EMBED_METADATA:
        return {}
    tags = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        tags["prompt"] = hidden.prompt
    return {name: json.dumps(value) for name, value in tags.items()}
