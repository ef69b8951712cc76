"""Reads component folders in diffusers layout: `config.json` beside one or more safetensors files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .json_object import json_object
from .quantised_layers import read_safetensors
from .recipe import Recipe
from .stored_tensors import is_safetensors

__all__ = ["first_shard", "read_component", "read_json", "shards_of", "weight_files"]

_STEMS = ("diffusion_pytorch_model", "model")
_STARTS = tuple(f"{stem}." for stem in _STEMS)
_LARGEST_JSON = 2**24  # bytes; the index of a checkpoint's shards is the longest, under 1 MiB
_SHARD = re.compile(r"(.+)[-_](\d{1,5})[-_]of[-_](\d{1,5})\.[^.]+", re.IGNORECASE)


def read_component(folder: Path) -> Recipe:
    """Return the recipe of a component folder (`transformer/`, `vae/`, ...). Reads headers, no tensor data.

    Raises ModelError if the folder, its configuration or a shard is missing or cannot be read.
    """
    config = read_json(folder / "config.json")
    return Recipe.of(config, read_safetensors(weight_files(folder)))


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises ModelError that names the file."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_JSON + 1)
    except FileNotFoundError:
        raise ModelError(f"{file}: not found; a model folder in diffusers layout has one") from None
    except OSError as error:
        raise ModelError(f"{file}: not readable: {error}") from error
    if len(content) > _LARGEST_JSON:
        raise ModelError(f"{file}: over {_LARGEST_JSON} bytes; configurations and indexes are smaller")
    return json_object(content, str(file))


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors file of a component folder, or all of its shards.

    In this order: a file or an index of the usual name; shards without an index; the only file of a variant,
    such as `diffusion_pytorch_model.fp16.safetensors`; the only file.

    Raises ModelError if the folder has none, if a shard is missing, or if it has several and none is usual.
    """
    for stem in _STEMS:
        single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
        if single.is_file():
            return [single]
        if index.is_file():
            return [_shard(folder, name) for name in sorted(set(_weight_map(index).values()))]
    files = sorted(filter(_is_weights, folder.iterdir())) if folder.is_dir() else []
    variants = [file for file in files if file.name.lower().startswith(_STARTS)]
    sets = _shards(files) or [[file] for file in variants or files]
    if len(sets) > 1:
        raise ModelError(
            f"{folder}: has several files of weights: {', '.join(one[0].name for one in sets[:4])}; "
            "leave one in the folder"
        )
    if not sets:
        raise ModelError(
            f"{folder}: has no {' or '.join(f'{stem}.safetensors' for stem in _STEMS)}; "
            "a folder needs safetensors weights, and a .gguf file is given itself"
        )
    return sets[0]


def shards_of(file: Path) -> list[Path]:
    """Return all shards of the checkpoint that a file is a shard of; the file alone if it is none.

    Raises ModelError if one is missing.
    """
    named = _SHARD.fullmatch(file.name)
    if named is None:
        return [file]
    beside = sorted(filter(_is_weights, file.parent.iterdir()))
    return next((shards for shards in _shards(beside) if file in shards), [file])


def first_shard(file: Path) -> bool:
    """Return whether a file may stand for its checkpoint: it is no shard, or the first one."""
    named = _SHARD.fullmatch(file.name)
    return named is None or int(named[2]) <= 1


def _is_weights(file: Path) -> bool:
    return is_safetensors(file) and not file.name.startswith(".")  # macOS leaves `._NAME` beside a copy


def _shards(files: list[Path]) -> list[list[Path]]:
    """Return the complete sets of shards among `files`. Raises ModelError if a set is incomplete."""
    sets: dict[tuple[str, int], dict[int, Path]] = {}
    for file in files:
        if found := _SHARD.fullmatch(file.name):
            sets.setdefault((found[1], int(found[3])), {})[int(found[2])] = file
    for (name, count), shards in sets.items():
        start = 0 if 0 in shards else 1
        missing = sorted(set(range(start, start + count)) - shards.keys())
        if missing:
            first = next(iter(shards.values()))
            raise ModelError(
                f"{first.parent}: has {len(shards)} of {count} shards of {name}; number {missing[0]} is "
                "missing: download it again"
            )
    return [[shards[number] for number in sorted(shards)] for shards in sets.values()]


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
