"""How to make each tensor of a network, written down instead of done.

A recipe says: this tensor comes from that file, plus these LoRA deltas. It is immutable and cheap; attaching
a LoRA makes a new recipe. Only `materialise` reads data: unit by unit, into a network that was built on meta,
on the device that needs it. So there is nothing to unpatch, and a second full copy never exists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..errors import ModelError

__all__ = ["DTypeRule", "Delta", "Ingredient", "Recipe", "keeping_fp32", "materialise"]

DTypeRule = Callable[[str], torch.dtype]


@dataclass(frozen=True, order=True)
class Delta:
    """One low-rank change of one tensor: strength * scale * (up @ down).

    `scale` is alpha / rank. Ordered, so that a sum over deltas does not depend on the order they were
    attached in.
    """

    file: Path
    down: str
    up: str
    scale: float
    strength: float


@dataclass(frozen=True)
class Ingredient:
    """One tensor of the network: where it is stored, in which shape, and what is added to it."""

    file: Path
    key: str
    shape: tuple[int, ...]
    deltas: tuple[Delta, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Recipe:
    """Every tensor of one network. `config` is the configuration of its class (`config.json`)."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Ingredient] = field(repr=False)

    @property
    def units(self) -> tuple[str, ...]:
        """The pieces a network is materialised in: head, blocks.0, blocks.1, ..., tail."""
        found = {_unit_of(name) for name in self.tensors}
        blocks = sorted((unit for unit in found if unit.startswith("blocks.")), key=lambda u: int(u[7:]))
        return tuple(unit for unit in ("head", *blocks, "tail") if unit in found)

    @property
    def elements(self) -> int:
        """Numbers in all tensors together; times the bytes of a dtype, the memory they need in it."""
        return sum(ingredient.elements for ingredient in self.tensors.values())

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files, LoRAs not included."""
        return tuple(sorted({ingredient.file for ingredient in self.tensors.values()}))

    def with_deltas(self, deltas: Mapping[str, Delta]) -> Recipe:
        """A new recipe with one more delta on each named tensor. Strength 0 adds nothing at all."""
        tensors = dict(self.tensors)
        for name, delta in deltas.items():
            if delta.strength != 0:
                tensors[name] = replace(tensors[name], deltas=tuple(sorted((*tensors[name].deltas, delta))))
        return Recipe(self.config, MappingProxyType(tensors))

    def into(self, unit: str, network: nn.Module, device: torch.device, dtype_of: DTypeRule) -> None:
        """Fill the parameters of one unit of `network`, which may still be on meta.

        dtype_of: the dtype each parameter is kept in. Where file, dtype and device already agree and no delta
        is added, the parameter is the memory-mapped file itself.
        Raises ModelError when a file cannot be read or a tensor does not fit the network.
        """
        state: dict[str, Tensor] = {}
        with _Files(device) as files:
            for name, ingredient in self.tensors.items():
                if _unit_of(name) == unit:
                    tensor = _bake(files, ingredient)
                    state[name] = tensor.to(device=device, dtype=dtype_of(name))
        try:
            unexpected = network.load_state_dict(state, strict=False, assign=True).unexpected_keys
        except RuntimeError as error:
            raise ModelError(f"{self.files[0]}: {error}") from error
        if unexpected:
            raise ModelError(f"{self.files[0]}: the network has no place for {', '.join(unexpected[:3])}")


def materialise(
    recipe: Recipe, network: nn.Module, device: torch.device, dtype_of: DTypeRule, check: Callable[[], None]
) -> None:
    """Fill all of `network` from `recipe`, unit by unit; `check` is called before each and may stop it.

    Raises ModelError when the recipe leaves a parameter without a value.
    """
    for unit in recipe.units:
        check()
        recipe.into(unit, network, device, dtype_of)
    missing = [name for name, _ in network.named_parameters() if name not in recipe.tensors]
    if missing:
        raise ModelError(
            f"{recipe.files[0]}: has no tensor for {', '.join(missing[:3])} ({len(missing)} missing)"
        )
    network.to(device).requires_grad_(False).eval()  # what is left to move are buffers, such as rotary tables


def keeping_fp32(modules: Collection[str], dtype: torch.dtype) -> DTypeRule:
    """`dtype` for every parameter but those of the named modules, which stay float32."""
    return lambda name: torch.float32 if any(part in modules for part in name.split(".")) else dtype


class _Files:
    """Memory-mapped safetensors files, opened once each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open: dict[Path, Any] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.clear()

    def read(self, file: Path, key: str) -> Tensor:
        try:
            if file not in self._open:
                self._open[file] = safe_open(file, framework="pt")
            tensor: Tensor = self._open[file].get_tensor(key)
        except Exception as error:  # safetensors raises its own type, OSError or RuntimeError
            raise ModelError(f"{file}: cannot read {key}: {error}") from error
        return tensor


def _bake(files: _Files, ingredient: Ingredient) -> Tensor:
    """The tensor with its deltas added, in float32 where there are any."""
    tensor = files.read(ingredient.file, ingredient.key)
    if not ingredient.deltas:
        return tensor
    total = tensor.to(device=files.device, dtype=torch.float32)
    for delta in ingredient.deltas:
        down = files.read(delta.file, delta.down).to(device=files.device, dtype=torch.float32)
        up = files.read(delta.file, delta.up).to(device=files.device, dtype=torch.float32)
        change = up.flatten(1) @ down.flatten(1)
        total = total + (delta.strength * delta.scale) * change.reshape(total.shape)
    return total


_BLOCK = re.compile(r"blocks\.\d+(?=\.)")
_TAIL = ("norm_out.", "proj_out.", "scale_shift_table")


def _unit_of(name: str) -> str:
    """The unit a parameter belongs to. Networks without numbered blocks at the top level are all head."""
    block = _BLOCK.match(name)
    if block:
        return block.group()
    return "tail" if name.startswith(_TAIL) else "head"
