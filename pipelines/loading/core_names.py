"""A recipe in the names of Wan's own code, which ComfyUI's loaders read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..weights.module_names import BLOCK_MODULES, MODULES
from ..weights.quantised_tensor import QuantisedTensor
from ..weights.recipe import Recipe
from ..weights.stored_tensors import Files, StoredTensor, is_safetensors

__all__ = [
    "added_by_loras",
    "core_config",
    "core_tensors",
    "is_stored_plainly",
    "readable_file",
    "to_wan",
]

# `unet_prefix_from_state_dict` in comfy/model_detection.py of ComfyUI 0.25.
_CORE_PREFIXES = {"", "model.diffusion_model.", "diffusion_model.", "model.", "net."}
_WAN_NAMES = {name: wan for wan, name in MODULES.items()}
_WAN_BLOCK_NAMES = {name: wan for wan, name in BLOCK_MODULES.items()}
_BLOCK = re.compile(r"(blocks\.\d+)\.(.+)")


def to_wan(parameter: str) -> str:
    """The name of a parameter in diffusers -> Wan's own.

    >>> to_wan("blocks.3.attn1.to_q.weight"), to_wan("scale_shift_table")
    ('blocks.3.self_attn.q.weight', 'head.modulation')
    """
    block = _BLOCK.fullmatch(parameter)
    if block is not None:
        return f"{block[1]}.{_renamed(block[2], _WAN_BLOCK_NAMES)}"
    return _renamed(parameter, _WAN_NAMES)


def readable_file(recipe: Recipe) -> Path | None:
    """The one safetensors file of `recipe`, where ComfyUI reads it as it is; None otherwise.

    Files in Wan's names, fp8 with scales included; not GGUF, shards, or the names of diffusers.
    """
    files = recipe.files
    if len(files) != 1 or not is_safetensors(files[0]):
        return None
    keys = {name: _key(tensor.source) for name, tensor in recipe.tensors.items()}
    prefixes = {key.removesuffix(to_wan(name)) for name, key in keys.items() if key is not None}
    fits = None not in keys.values() and len(prefixes) == 1 and prefixes <= _CORE_PREFIXES
    return files[0] if fits else None


def is_stored_plainly(recipe: Recipe) -> bool:
    """Whether every tensor is stored as the numbers it is, so that none has to be dequantised."""
    return all(isinstance(tensor.source, StoredTensor) for tensor in recipe.tensors.values())


def core_tensors(recipe: Recipe, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of `recipe` without its LoRAs, in Wan's names, on the CPU.

    Memory-mapped where they are stored plainly, else dequantised to `dtype`.
    """
    found: dict[str, Tensor] = {}
    with Files(torch.device("cpu")) as files:
        for name, tensor in recipe.tensors.items():
            read = tensor.source.read(files)
            found[to_wan(name)] = read if isinstance(tensor.source, StoredTensor) else read.to(dtype)
    return found


def added_by_loras(recipe: Recipe) -> dict[str, Tensor]:
    """What the LoRAs of `recipe` add to each tensor they change, float32, in Wan's names."""
    with Files(torch.device("cpu")) as files:
        return {
            to_wan(name): tensor.compute(files) - tensor.source.read(files).float()
            for name, tensor in recipe.tensors.items()
            if tensor.deltas
        }


def core_config(recipe: Recipe) -> Mapping[str, Any]:
    """What ComfyUI cannot tell from the shapes of a transformer: the embedded model is narrower."""
    config = recipe.config
    return {"text_dim": config.get("text_dim", 4096), "num_heads": config.get("num_attention_heads", 40)}


def _key(source: object) -> str | None:
    """The name of a tensor in its file; None if not every ComfyUI since 0.25 can read it there."""
    if isinstance(source, QuantisedTensor) and source.is_scaled_fp8:
        return source.weight.key
    return source.key if isinstance(source, StoredTensor) else None


def _renamed(parameter: str, names: Mapping[str, str]) -> str:
    if parameter in names:
        return names[parameter]
    module, _, leaf = parameter.rpartition(".")
    return f"{names[module]}.{leaf}"
