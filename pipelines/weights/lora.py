"""Reads a LoRA file: which tensors of an expert it changes, and by what."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import LoraError
from .recipe import Recipe
from .stored import Files

__all__ = ["LoraReport", "attach_lora"]

_KEY = re.compile(
    r"(?:transformer\.)?(?P<module>.+)\.(?:lora_(?P<side>[AB])(?:\.default)?\.weight|(?P<alpha>alpha))"
)


@dataclass(frozen=True)
class LoraReport:
    """What one LoRA did to one expert. `matched` counts tensors; a scale of alpha / rank is already in the
    weights.
    """

    file: Path
    expert: str
    strength: float
    ranks: tuple[int, ...]
    matched: int


@dataclass(frozen=True)
class LowRank:
    """scale * (up @ down); `scale` is alpha / rank."""

    file: Path
    down: str
    up: str
    scale: float
    strength: float

    def change(self, files: Files, base: Tensor) -> Tensor:
        down, up = (
            files.read(self.file, key).to(device=files.device, dtype=torch.float32).flatten(1)
            for key in (self.down, self.up)
        )
        return (up @ down).reshape(base.shape).mul_(self.scale)


@dataclass(frozen=True)
class _Pair:
    down: str
    up: str
    rank: int
    out_features: int
    in_features: int
    alpha: float | None


def attach_lora(recipe: Recipe, file: Path, strength: float, expert: str) -> tuple[Recipe, LoraReport]:
    """A recipe with the LoRA in `file` added at `strength`, and what was matched. Reads headers and alphas
    only.

    Reads the diffusers / PEFT dialect: `[transformer.]<module>.lora_A.weight` and `lora_B.weight`, with an
    optional `<module>.alpha`; without one, alpha equals the rank.

    Raises LoraError when the file is unreadable, speaks another dialect, or does not fit this expert.
    """
    pairs = _read_pairs(file)
    deltas: dict[str, tuple[LowRank]] = {}
    for module, pair in pairs.items():
        name = f"{module}.weight"
        if name not in recipe.tensors:
            raise LoraError(f"{file.name}: changes {module}, which the {expert}-noise expert does not have")
        shape = recipe.tensors[name].shape
        if (pair.out_features, pair.in_features) != (shape[0], math.prod(shape[1:])):
            raise LoraError(
                f"{file.name}: {module} is made for {pair.out_features}x{pair.in_features}, the {expert}-"
                f"noise expert has {shape[0]}x{math.prod(shape[1:])}; this LoRA belongs to another model"
            )
        scale = 1.0 if pair.alpha is None else pair.alpha / pair.rank
        deltas[name] = (LowRank(file, pair.down, pair.up, scale, strength),)
    ranks = tuple(sorted({pair.rank for pair in pairs.values()}))
    return recipe.with_deltas(deltas), LoraReport(file, expert, strength, ranks, len(deltas))


def _read_pairs(file: Path) -> Mapping[str, _Pair]:
    if file.suffix != ".safetensors":
        raise LoraError(f"{file}: only .safetensors LoRA files are read")
    sides: dict[str, dict[str, str]] = {}
    strangers: list[str] = []
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118  safe_open is not a mapping
                match = _KEY.fullmatch(key)
                if match is None:
                    strangers.append(key)
                else:
                    sides.setdefault(match["module"], {})[match["side"] or "alpha"] = key
            if strangers or not sides:
                raise LoraError(
                    f"{file.name}: keys like {', '.join(strangers[:3]) or 'none at all'} are not of the "
                    "diffusers dialect (<module>.lora_A.weight and lora_B.weight), which this version reads"
                )
            return {module: _pair(file, module, keys, opened) for module, keys in sides.items()}
    except LoraError:
        raise
    except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
        raise LoraError(f"{file}: not a readable safetensors file: {error}") from error


def _pair(file: Path, module: str, keys: Mapping[str, str], opened: Any) -> _Pair:
    if not {"A", "B"} <= keys.keys():
        raise LoraError(f"{file.name}: {module} has only one of lora_A and lora_B; the file is incomplete")
    down, up = (tuple(opened.get_slice(keys[side]).get_shape()) for side in "AB")
    if down[0] != up[1]:
        raise LoraError(f"{file.name}: {module} has rank {down[0]} in lora_A and {up[1]} in lora_B")
    alpha = float(opened.get_tensor(keys["alpha"])) if "alpha" in keys else None
    return _Pair(keys["A"], keys["B"], down[0], up[0], math.prod(down[1:]), alpha)
