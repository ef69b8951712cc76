"""Where the LoRA that a request names really lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import LoraError

__all__ = ["find_lora"]


def find_lora(path: str, folders: Sequence[Path] | None) -> Path:
    """The file of a LoRA `path`: a name below one of `folders`, or, where `folders` is None, any local path.

    Names with / and with a backslash mean the same. Raises LoraError when there is no such file, when it lies
    outside the folders, and for addresses: this version downloads nothing.
    """
    if "://" in path:
        raise LoraError(f"loras: {path} is an address, and this version downloads nothing; give a local file")
    name = path.replace("\\", "/")
    if folders is None:
        if Path(path).is_file():
            return Path(path).resolve()
        raise LoraError(f"loras: {path} not found; give the path of a .safetensors file")
    for folder in folders:
        root, file = folder.resolve(), (folder / name).resolve()
        if not file.is_file():
            continue
        if not file.is_relative_to(root):
            raise LoraError(f"loras: {path} leads out of {folder}; copy the file into that folder")
        return file
    raise LoraError(f"loras: {path} not found in {', '.join(map(str, folders))}; put the file there")
