"""Counts the formats in which the matrices of a network are stored. Files may mix them, layer by layer."""

from __future__ import annotations

from collections import Counter

from .gguf_file import GgufTensor
from .recipe import Recipe
from .stored_parts import stored_matrix
from .stored_tensors import Source, StoredTensor

__all__ = ["format_counts"]

_PLAIN = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def format_counts(recipe: Recipe) -> dict[str, int]:
    """Return {format: number of matrices}, the most frequent first. LoRAs do not count."""
    matrices = (tensor for tensor in recipe.tensors.values() if len(tensor.shape) > 1)
    return dict(Counter(_format(tensor.source) for tensor in matrices).most_common())


def _format(source: Source) -> str:
    if isinstance(source, GgufTensor):
        return source.kind
    if isinstance(source, StoredTensor) and not source.dtype.startswith("F8"):
        return _PLAIN.get(source.dtype, source.dtype)
    return stored_matrix(source).format
