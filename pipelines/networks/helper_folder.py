"""Loads a helper model that the user chose, from a folder of the transformers library.

It reads local files only, and never executes code or pickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError
from ..weights.folder import read_json
from ..weights.hashing import file_hash

__all__ = ["architecture_of", "companion_record", "load_companion", "weight_files"]


def architecture_of(folder: Path, what: str) -> str:
    """Return the class name in config.json.

    Raises ModelError if there is no such folder, or if its weights are not safetensors.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{what}: {folder} has no config.json; give a folder as transformers saves it, with weights in "
            "safetensors"
        )
    if not weight_files(folder):
        raise ModelError(f"{what}: {folder} has no .safetensors file; only safetensors weights are supported")
    names = read_json(folder / "config.json").get("architectures") or [""]
    return str(names[0])


def weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def companion_record(folder: Path) -> dict[str, Any]:
    """Return the name of the folder and the hashes of its weights, for the receipt."""
    return {
        "name": folder.resolve().name,
        "files": {file.name: file_hash(file) for file in weight_files(folder)},
    }


def load_companion(kind: str, folder: Path, what: str, dtype: torch.dtype) -> Any:
    """Return the network in `folder`, on the CPU, in evaluation mode. kind: an Auto class of transformers.

    Raises ModelError if the folder does not fit the class.
    """
    import transformers

    # The argument had another name before 5.0, which warns of it.
    name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    options: Mapping[str, Any] = {name: dtype}
    try:
        network = getattr(transformers, kind).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False, **options
        )
    except Exception as error:  # transformers raises many types of errors for damaged files
        raise ModelError(f"{what}: {folder} cannot be loaded: {error}") from error
    return network.eval()
