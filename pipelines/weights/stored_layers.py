"""Makes a recipe whose linear layers compute on the numbers of their files (`precision: stored`).

The weight of such a layer is replaced by several tensors of its own, which are loaded like all others: the
numbers as stored, their scales, and the two factors of its LoRAs, which are not added to the weight but are a
product of low rank beside it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..kernels.stored_products import StoredLayer, choose_way
from .quantised_tensor import QuantisedTensor
from .recipe import Recipe, TensorRecipe
from .stored_parts import StoredMatrix, lora_factors, stored_matrix

if TYPE_CHECKING:
    import torch

__all__ = ["StoredUse", "computing_as_stored", "side_share", "work_by_way"]

_LINEAR = re.compile(r"(blocks\.\d+\..+)\.weight")


@dataclass(frozen=True)
class StoredUse:
    """How the layers of one format compute.

    way:    of `stored_products.WAYS`; None for layers that are decoded, and compute exactly.
    reason: why they are decoded.
    """

    format: str
    layers: int
    way: str | None
    reason: str = ""

    def text(self) -> str:
        how = f"decoded, as without it: {self.reason}" if self.way is None else f"products by {self.way}"
        return f"{self.layers} layers in {self.format}: {how}"


def computing_as_stored(recipe: Recipe, device: torch.device) -> tuple[Recipe, tuple[StoredUse, ...]]:
    """Return the recipe whose blocks compute on stored numbers on `device`, and how each format does.

    A layer stays as it was if its format, its shape or one of its LoRAs does not allow such a product, or if
    the device has none.
    """
    tensors: dict[str, TensorRecipe] = {}
    layers: dict[str, StoredLayer] = {}
    uses: Counter[tuple[str, str | None, str]] = Counter()
    for name, tensor in recipe.tensors.items():
        linear = _LINEAR.fullmatch(name)
        if linear is None or len(tensor.shape) != 2:
            tensors[name] = tensor
            continue
        stored = stored_matrix(tensor.source)
        way, reason = _way(stored, tensor, device)
        uses[stored.format, way, reason] += 1
        if way is None:
            tensors[name] = tensor
        else:
            parts = {part: TensorRecipe(source) for part, source in stored.parts.items()} | lora_factors(
                tensor
            )
            tensors |= {f"{linear[1]}.{part}": made for part, made in parts.items()}
            shapes = tuple((part, made.shape) for part, made in parts.items())
            rank = sum(delta.rank or 0 for delta in tensor.deltas)
            layers[linear[1]] = StoredLayer(way, tensor.shape, shapes, stored.rotation, rank)
    found = tuple(StoredUse(kind, count, way, reason) for (kind, way, reason), count in uses.items())
    return replace(recipe, tensors=MappingProxyType(tensors), stored=MappingProxyType(layers)), found


def side_share(recipe: Recipe) -> float:
    """Return how many multiplications the LoRAs beside stored products add, relative to those products."""
    layers = recipe.stored.values()
    products = sum(math.prod(layer.shape) for layer in layers)
    return sum(layer.rank * sum(layer.shape) for layer in layers) / max(products, 1)


def work_by_way(recipe: Recipe) -> dict[str | None, float]:
    """Return the multiplications of each way, relative to those of all layers of the blocks.

    None is the dtype of the run, which computes the other layers, and on top the LoRAs beside products.
    """
    work: Counter[str | None] = Counter()
    for layer in recipe.stored.values():
        work[layer.way] += math.prod(layer.shape)
        work[None] += layer.rank * sum(layer.shape)
    plain = sum(
        math.prod(tensor.shape)
        for name, tensor in recipe.tensors.items()
        if _LINEAR.fullmatch(name) and len(tensor.shape) == 2
    )
    work[None] += plain
    total = plain + sum(math.prod(layer.shape) for layer in recipe.stored.values())
    return {way: count / total for way, count in work.items() if count}


def _way(stored: StoredMatrix, tensor: TensorRecipe, device: torch.device) -> tuple[str | None, str]:
    """Return the way of a layer's product, or None and the reason."""
    if stored.product is None:
        return None, stored.reason
    for delta in tensor.deltas:
        if delta.rank is None:
            return None, f"{delta.file.name} changes it by more than a product of low rank"
    source = tensor.source
    sides = source.numbers.shape if isinstance(source, QuantisedTensor) else source.shape
    return choose_way(stored.product, device, sides)
