"""Lists the folders of weight files, also those of extra_model_paths.yaml."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..pipelines.model_files.inventory import FOLDERS, Folders

__all__ = ["model_folders"]


def model_folders() -> Folders:
    """Return {folder: all places that ComfyUI reads for it}."""
    return {name: [Path(place) for place in folder_paths.get_folder_paths(name)] for name in FOLDERS}
