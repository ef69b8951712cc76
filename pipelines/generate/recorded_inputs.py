"""Finds the input files of a receipt by name and hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from ..files.sample_inputs import SAMPLE_FOLDER
from ..video.local_file import file_at

__all__ = ["recorded_inputs"]


def recorded_inputs(inputs: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Path]:
    """Return {field: file} for each recorded input that lies unchanged in one of `folders`, or in the pack.

    inputs: {field: {"name", "sha256", ...}}, as `MediaInputs.as_dict` makes them.
    """
    found = {}
    for field, entry in inputs.items():
        name = PureWindowsPath(str(entry["name"])).name  # a receipt from elsewhere names no folder here
        for folder in (*folders, SAMPLE_FOLDER):
            file = folder / name
            # Older receipts have the hash of a pose video with a prefix.
            sha256 = str(entry["sha256"]).removeprefix("sha256:")
            if name and file.is_file() and file_at(file, field).sha256 == sha256:
                found[field] = file
                break
    return found
