"""The default folders of downloads, and of the journal, keys and settings of remote jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from platformdirs import PlatformDirs
from platformdirs.api import PlatformDirsABC

__all__ = ["data_folder", "remote_folder"]

_NAME = "wan-duet"


def data_folder(system: Callable[..., PlatformDirsABC] = PlatformDirs) -> Path:
    """Return this system's folder for the data of a program.

    An existing folder of version 0.1.0 stays in use, so that no open paid job is lost: that version ignored
    XDG_DATA_HOME on macOS, and used LOCALAPPDATA on Windows.
    """
    for parent in (Path.home() / "Library" / "Application Support", Path(os.environ.get("LOCALAPPDATA", ""))):
        if parent.is_absolute() and (parent / _NAME).is_dir():
            return parent / _NAME
    return system(_NAME, appauthor=False).user_data_path


def remote_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the ComfyUI at $COMFYUI_PATH, so that both use the same jobs, keys and budget.

    Without COMFYUI_PATH, return a folder in `data_folder`.
    """
    comfyui = environ.get("COMFYUI_PATH")
    if comfyui:  # folder_paths.get_system_user_directory("wan_duet"), unless ComfyUI has another one
        return Path(comfyui) / "user" / "__wan_duet"
    return data_folder() / "remote"
