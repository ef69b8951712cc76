"""Where journal, keys and settings lie when nobody names a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..download.home import data_folder

__all__ = ["remote_folder"]


def remote_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """That of the ComfyUI of $COMFYUI_PATH, so that jobs, keys and budget are the same there and here; else
    this system's place for the data of programs.
    """
    comfyui = environ.get("COMFYUI_PATH")
    if comfyui:  # folder_paths.get_system_user_directory("wan_duet"), unless ComfyUI was told another one
        return Path(comfyui) / "user" / "__wan_duet"
    return data_folder(environ) / "remote"
