"""Reads component folders in diffusers layout: `config.json` beside one or more safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .quantised_layers import read_safetensors
from .recipe import Recipe

__all__ = ["read_component", "read_json", "weight_files"]

_STEMS = ("diffusion_pytorch_model", "model")


def read_component(folder: Path) -> Recipe:
    """Return the recipe of a component folder (`transformer/`, `vae/`, ...). Reads headers, no tensor data.

    Raises ModelError if the folder, its configuration or a shard is missing or cannot be read.
    """
    config = read_json(folder / "config.json")
    return Recipe.of(config, read_safetensors(weight_files(folder)))


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises ModelError that names the file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{file}: not found; a model folder in diffusers layout has one") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: holds a {type(content).__name__}; a JSON object is needed")
    return content


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors file of a component folder, or all of its shards.

    Raises ModelError if the folder has none, or if a shard named in its index is missing.
    """
    for stem in _STEMS:
        single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
        if single.is_file():
            return [single]
        if index.is_file():
            return [_shard(folder, name) for name in sorted(set(_weight_map(index).values()))]
    raise ModelError(
        f"{folder}: has no {' or '.join(f'{stem}.safetensors' for stem in _STEMS)}; "
        "only safetensors weights are supported"
    )


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ModelError(f"{index}: has no weight_map from tensor to file name")
    return found


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ModelError(f"{folder}: the index names {name!r}; a shard must lie in the folder itself")
    if not (folder / name).is_file():
        raise ModelError(
            f"{folder / name}: not found, but the index of the folder names it; download it again"
        )
    return folder / name
