"""Reads and writes latent files in the format of ComfyUI's Load Latent, with the settings of their video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import MediaError
from ..files.on_disk import discard
from .edit import Edit

__all__ = ["LatentFile", "read_latents", "write_latents"]

_LATENTS = "latent_tensor"
_UNSCALED = "latent_format_version_0"  # without it, ComfyUI reads the values in an older scale
_EDIT = "wan_duet_edit"


@dataclass(frozen=True)
class LatentFile:
    """The contents of a latent file.

    latents: (1, C, T, h, w), un-normalised VAE space, float32.
    frames:  how many of the decoded frames are used. None uses all.
    """

    latents: Tensor
    edit: Edit | None = None
    frames: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def write_latents(path: Path, file: LatentFile) -> None:
    """Write `file` to `path`. Raises OSError or SafetensorError, and leaves nothing, if that fails."""
    metadata = dict(file.tags)
    if file.edit is not None:
        metadata[_EDIT] = json.dumps({"edit": file.edit.as_dict(), "frames": file.frames})
    tensors = {_LATENTS: file.latents.float().cpu().contiguous(), _UNSCALED: torch.empty(0)}
    try:
        save_file(tensors, path, metadata)
    except BaseException:
        discard(path)
        raise


def read_latents(path: Path) -> LatentFile:
    """Read a latent file, also one of ComfyUI's Save Latent, which has no settings of a video.

    Raises MediaError if the file is missing or damaged, or contains no latents of a video.
    """
    try:
        with safe_open(path, "pt") as file:
            tags = dict(file.metadata() or {})
            # A copy: Windows could not remove a file that is memory-mapped.
            latents = file.get_tensor(_LATENTS).float().clone()
            scaled = _UNSCALED not in file.keys()  # noqa: SIM118  it is no mapping
        settings = json.loads(tags.pop(_EDIT, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise MediaError(f"cannot read {path} as latents: {error}; give a .latent file") from error
    if scaled or latents.ndim != 5 or latents.shape[0] != 1:
        raise MediaError(
            f"{path} contains latents of shape {tuple(latents.shape)}; "
            "give those of one video, (1, channels, frames, height, width)"
        )
    if not settings:
        return LatentFile(latents, tags=tags)
    return LatentFile(latents, *_settings(path, settings), tags)


def _settings(path: Path, settings: Any) -> tuple[Edit, int | None]:
    try:
        edit, frames = Edit.of(settings["edit"]), settings["frames"]
    except (KeyError, TypeError, MediaError) as error:
        raise MediaError(f"{path}: its video settings are damaged: {error}") from error
    if frames is not None and (type(frames) is not int or frames < 1):
        raise MediaError(f"{path}: its number of frames is {frames!r}; it must be 1 or more")
    return edit, frames
