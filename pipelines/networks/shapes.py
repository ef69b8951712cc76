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


def require_shapes(
    path: Path,
    what: str,
    tensors: Mapping[str, Source],
    wanted: Shapes,
    stated_by: str = "the rest of the file",
) -> None:
    """Raise ModelError, with everything that is wrong, unless a file has exactly the parameters of a network.

    stated_by: where the wanted shapes are from, for the message.
    """
    found = {name: source.shape for name, source in tensors.items()}
    problems: list[str] = []
    if missing := sorted(wanted.keys() - found.keys()):
        problems.append(
            f"has no tensor for {', '.join(missing[:3])} ({len(missing)} missing); it is incomplete, or one "
            "of several files: give the folder that holds them and their index"
        )
    if extra := sorted(found.keys() - wanted.keys()):
        problems.append(
            f"holds tensors that {what} has no place for, such as {', '.join(extra[:3])} ({len(extra)} in "
            "all)"
        )
    common = wanted.keys() & found.keys()
    if misshapen := sorted(name for name in common if found[name] != wanted[name]):
        first = misshapen[0]
        others = f" ({len(misshapen)} have another shape)" if len(misshapen) > 1 else ""
        problems.append(
            f"{first} has shape {list(found[first])}; by {stated_by} it should be {list(wanted[first])}"
            f"{others}. It is damaged, or compressed in a way that is not read here"
        )
    for name in sorted(common):
        source = tensors[name]
        if isinstance(source, StoredTensor) and source.dtype not in NUMBERS:
            problems.append(f"{name} is {source.dtype} instead of a float type; the file is damaged")
            break
    if problems:
        raise ModelError(f"{path}: {'; and '.join(problems)}")
