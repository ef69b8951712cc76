"""What a network made from a recipe takes in memory, counted before a byte of it is read."""

from __future__ import annotations

import torch

from .recipe import DTypeRule, Recipe, TensorRecipe
from .stored_tensors import StoredTensor

__all__ = ["making_bytes", "mapped_bytes", "stays_as_stored", "unit_bytes", "weight_bytes"]

_FILE_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def weight_bytes(recipe: Recipe, dtype_of: DTypeRule) -> int:
    """Bytes of all tensors in the dtypes they are kept in."""
    return sum(item.elements * dtype_of(name).itemsize for name, item in recipe.tensors.items())


def mapped_bytes(recipe: Recipe, dtype_of: DTypeRule) -> int:
    """How much of `weight_bytes` stays the memory-mapped file when the network is on the CPU.

    Such pages belong to the file: the system drops them when it needs the room, and reads them again.
    """
    return sum(
        item.elements * dtype_of(name).itemsize
        for name, item in recipe.tensors.items()
        if stays_as_stored(item, dtype_of(name))
    )


def unit_bytes(recipe: Recipe, dtype_of: DTypeRule, *, unmapped_only: bool = False) -> tuple[int, ...]:
    """Of what is brought together (`Recipe.streamed_units`), the bytes of each, in order.

    unmapped_only: without what stays the memory-mapped file on a CPU.
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
    """What is needed beside the weights while they are made: the largest tensor that has to be computed, in
    float32. Where LoRAs change it, twice (as stored, the sum), three times if one takes room for itself, and
    four times if that one looks at the stored tensor too.
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
    """Whether the bytes of the file are the tensor: nothing is computed, nothing is added."""
    source = item.source
    return not item.deltas and isinstance(source, StoredTensor) and _FILE_DTYPES.get(source.dtype) is dtype
