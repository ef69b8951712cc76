"""The names and shapes of a network's parameters, to check a file before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import ModelError
from ..weights.stored_tensors import NUMBERS, Source, StoredTensor

__all__ = ["Shapes", "require_shapes", "shape_of"]

Shapes = Mapping[str, tuple[int, ...]]


def shape_of(path: Path, shapes: Shapes, name: str, dims: int) -> tuple[int, ...]:
    """Return the shape of a tensor.

    Raises ModelError unless it exists with `dims` dimensions, none of them 0.
    """
    found = shapes.get(name)
    if found is None or len(found) != dims or 0 in found:
        seen = "is missing" if found is None else f"has shape {list(found)}"
        raise ModelError(f"{path}: incomplete or of another kind: {name} {seen}")
    return found


def require_shapes(path: Path, what: str, tensors: Mapping[str, Source], wanted: Shapes) -> None:
    """Raise ModelError unless a file has exactly the parameters of a network, each in its shape."""
    found = {name: source.shape for name, source in tensors.items()}
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelError(
            f"{path}: has no tensor for {', '.join(missing[:3])} ({len(missing)} missing); it is incomplete, "
            "or one of several files: give the folder that holds them and their index"
        )
    extra = sorted(found.keys() - wanted.keys())
    if extra:
        raise ModelError(
            f"{path}: holds tensors that {what} has no place for, such as {', '.join(extra[:3])} "
            f"({len(extra)} in all)"
        )
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ModelError(
                f"{path}: {name} has shape {list(found[name])}; by the rest of the file it should be "
                f"{list(shape)}. It is damaged, or compressed in a way that is not read here"
            )
        source = tensors[name]
        if isinstance(source, StoredTensor) and source.dtype not in NUMBERS:
            raise ModelError(f"{path}: {name} is {source.dtype} instead of a float type; the file is damaged")
