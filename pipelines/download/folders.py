"""Where downloads, and the journal, keys and settings of remote jobs lie when nobody names a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from platformdirs import PlatformDirs
from platformdirs.api import PlatformDirsABC

__all__ = ["data_folder", "remote_folder"]

_NAME = "wan-duet"


def data_folder(system: Callable[..., PlatformDirsABC] = PlatformDirs) -> Path:
    """Where programs of this system keep their data.

    A folder that is there already stays in use, so that no open paid job is lost: 0.1.0 did not ask for
    XDG_DATA_HOME on macOS, and asked for LOCALAPPDATA on Windows.
    """
    for parent in (Path.home() / "Library" / "Application Support", Path(os.environ.get("LOCALAPPDATA", ""))):
        if parent.is_absolute() and (parent / _NAME).is_dir():
            return parent / _NAME
    return system(_NAME, appauthor=False).user_data_path


def remote_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """That of the ComfyUI of $COMFYUI_PATH, so that jobs, keys and budget are the same there and here; else
    this system's place for the data of programs.
    """
    comfyui = environ.get("COMFYUI_PATH")
    if comfyui:  # folder_paths.get_system_user_directory("wan_duet"), unless ComfyUI was told another one
        return Path(comfyui) / "user" / "__wan_duet"
    return data_folder() / "remote"
