"""Computes the memory that a network needs from its recipe, without reading tensor data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .recipe import DTypeRule, Recipe, TensorRecipe
from .stored_tensors import StoredTensor, dtype_of_file

if TYPE_CHECKING:
    import torch

__all__ = ["making_bytes", "mapped_bytes", "stays_as_stored", "unit_bytes", "weight_bytes"]


def weight_bytes(recipe: Recipe, dtype_of: DTypeRule) -> int:
    """Return the bytes of all tensors in the dtypes they are kept in."""
    return sum(item.elements * dtype_of(name).itemsize for name, item in recipe.tensors.items())


def mapped_bytes(recipe: Recipe, dtype_of: DTypeRule) -> int:
    """Return how many of `weight_bytes` stay memory-mapped files when the network is on the CPU.

    The system drops such pages when it needs the memory, and reads them again.
    """
    return sum(
        item.elements * dtype_of(name).itemsize
        for name, item in recipe.tensors.items()
        if stays_as_stored(item, dtype_of(name))
    )


def unit_bytes(recipe: Recipe, dtype_of: DTypeRule, *, unmapped_only: bool = False) -> tuple[int, ...]:
    """Return the bytes of each unit that is loaded at once (`Recipe.streamed_units`), in order.

    unmapped_only: without what stays a memory-mapped file on a CPU.
    """
    return tuple(
        sum(
            item.elements * dtype_of(name).itemsize
            for name, item in tensors.items()
            if not (unmapped_only and stays_as_stored(item, dtype_of(name)))
        )
        for tensors in recipe.streamed_units
    )


def making_bytes(recipe: Recipe) -> int:
    """Return the bytes needed beside the weights while they are computed.

    That is the largest tensor that must be computed, in float32. With LoRAs it counts twice (stored and sum),
    three times if a delta needs memory of its own, and four times if that delta also reads the stored tensor.
    """

    def copies(item: TensorRecipe) -> int:
        if not item.deltas:
            return 1
        if all(delta.adds_in_place for delta in item.deltas):
            return 2
        return 4 if any(delta.sees_base for delta in item.deltas) else 3

    return max(
        (
            item.elements * 4 * copies(item)
            for item in recipe.tensors.values()
            if item.deltas or not isinstance(item.source, StoredTensor)
        ),
        default=0,
    )


def stays_as_stored(item: TensorRecipe, dtype: torch.dtype) -> bool:
    """Return whether the bytes in the file are the tensor: nothing is converted and nothing is added."""
    source = item.source
    return not item.deltas and isinstance(source, StoredTensor) and dtype_of_file(source.dtype) is dtype
