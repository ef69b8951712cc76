"""Where the LoRA that a request names really lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import LoraError

__all__ = ["find_lora"]


def find_lora(path: str, folders: Sequence[Path] | None) -> Path:
    """The file of a LoRA `path`: a name below one of `folders`, or, where `folders` is None, any local path.

    Names with / and with a backslash mean the same. Raises LoraError when there is no such file, when it lies
    outside the folders, and for addresses: this version downloads nothing.
    """
    if "://" in path:  # not shown: it may hold a token
        raise LoraError("loras: an address, and this version downloads nothing; give a local file")
    name = path.replace("\\", "/")
    if folders is None:
        if os.path.isfile(path):
            return Path(path).resolve()
        raise LoraError(f"loras: {path[:200]} not found here; give the path of a .safetensors file")
    for folder in folders:
        if not os.path.isfile(folder / name):
            continue
        root, file = folder.resolve(), (folder / name).resolve()
        if not file.is_relative_to(root):
            raise LoraError(f"loras: {path} leads out of {folder}; copy the file into that folder")
        return file
    raise LoraError(f"loras: {path[:200]} not found in {', '.join(map(str, folders))}; put the file there")
