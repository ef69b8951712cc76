"""The tensors that a product on stored numbers computes with: numbers, scales, and the factors of LoRAs.

Each has a name after that of its layer, which states its dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..device.late_torch import torch
from ..kernels.stored_products import StoredProduct
from .number_formats import (
    BlockFloat4,
    BlockFloat8,
    GroupedInt4,
    NumberFormat,
    Read,
    RotatedInt4,
    ScaledNumbers,
)
from .quantised_tensor import QuantisedTensor
from .recipe import Delta, TensorRecipe
from .stored_tensors import Files, Source, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LORA_DOWN",
    "LORA_UP",
    "SMOOTHING",
    "StoredMatrix",
    "lora_factors",
    "stored_dtypes",
    "stored_matrix",
]

LORA_DOWN, LORA_UP = "lora_down", "lora_up"
SMOOTHING = "smoothing"  # what the inputs of a layer are multiplied by
_ROW_SCALE, _BLOCK_SCALE, _FACTOR = "row_scale", "block_scale", "factor"
_AT_ONCE = 2**22  # numbers
_DTYPES = {
    "weight_int8": "int8",
    "weight_e4m3": "float8_e4m3fn",
    "weight_e5m2": "float8_e5m2",
    "weight_e2m1": "uint8",
    _BLOCK_SCALE: "uint8",
    _FACTOR: "float32",
    _ROW_SCALE: "float32",
    SMOOTHING: "float32",
}
"""{the last part of a parameter's name: torch's name of its dtype}. Factors of LoRAs have the network's."""

_NUMBERS: Mapping[str, tuple[str, StoredProduct]] = {
    "I8": ("weight_int8", "int8"),
    "F8_E4M3": ("weight_e4m3", "fp8"),
    "F8_E5M2": ("weight_e5m2", "fp8"),
}
_Rows: TypeAlias = ScaledNumbers | RotatedInt4 | GroupedInt4  # a scale for every row


def stored_dtypes(name: str) -> torch.dtype | None:
    """Return the dtype of a parameter that is kept as stored; None for any other."""
    known = _DTYPES.get(name.rpartition(".")[2])
    return None if known is None else getattr(torch, known)


class StoredMatrix(NamedTuple):
    """A matrix as its file stores it.

    parts:  what the product computes with, in its order; empty if there is no product, for this `reason`.
    """

    format: str
    product: StoredProduct | None = None
    parts: Mapping[str, Source] = MappingProxyType({})
    rotation: int = 0
    reason: str = ""


def stored_matrix(source: Source) -> StoredMatrix:
    if isinstance(source, StoredTensor):
        if source.dtype not in _NUMBERS:
            return StoredMatrix("plain numbers", reason=f"{source.dtype} is not quantised")
        one = _Constant(source.file, source.shape[:1], 1.0)
        part, product = _NUMBERS[source.dtype]
        return StoredMatrix("fp8 without scales", product, {part: source, _ROW_SCALE: one})
    if not isinstance(source, QuantisedTensor):
        return StoredMatrix("GGUF", reason="its scales change along a row")
    made = _of_numbers(source.numbers, "rotated" if source.rotation else "")
    if source.smoothing is None:
        return made._replace(rotation=source.rotation)
    smoothing = _Computed(source.file, source.shape[1:], source.smoothing, _as_float)
    parts = {**made.parts, SMOOTHING: smoothing}
    return made._replace(format=f"{made.format} smoothed", parts=parts, rotation=source.rotation)


def _of_numbers(numbers: NumberFormat, rotated: str) -> StoredMatrix:
    weight = numbers.tensors[0]
    if isinstance(numbers, (BlockFloat8, BlockFloat4)):
        bytes_of = numbers.scale
        scales = _Computed(weight.file, (math.prod(bytes_of.shape),), bytes_of, _as_bytes)
        if isinstance(numbers, BlockFloat8):
            return StoredMatrix("mxfp8", "mxfp8", {"weight_e4m3": weight, _BLOCK_SCALE: scales})
        factor = _Computed(weight.file, (), numbers.factor, _as_float)
        return StoredMatrix("nvfp4", "nvfp4", {"weight_e2m1": weight, _BLOCK_SCALE: scales, _FACTOR: factor})
    if isinstance(numbers, (RotatedInt4, GroupedInt4)):
        name = "convrot_w4a4" if isinstance(numbers, RotatedInt4) else "asym_w4a8_int8"
        widened = _Computed(weight.file, numbers.shape, numbers, _as_integers)
        return StoredMatrix(
            f"{name} as int8", "int8", {"weight_int8": widened, _ROW_SCALE: _row_scale(numbers)}
        )
    if not isinstance(numbers, ScaledNumbers) or weight.dtype not in _NUMBERS:
        return StoredMatrix(f"scaled {weight.dtype}", reason="it is not quantised to 8 bits")
    part, product = _NUMBERS[weight.dtype]
    kind = " ".join(filter(None, (product, rotated)))
    if not numbers.decodes_in_place:
        return StoredMatrix(f"{kind} in blocks", reason="its scales change along a row")
    by = "per row" if numbers.block[0] == 1 else "with one scale"
    return StoredMatrix(f"{kind} {by}", product, {part: weight, _ROW_SCALE: _row_scale(numbers)})


def _row_scale(numbers: _Rows) -> Source:
    return _Computed(numbers.tensors[0].file, numbers.shape[:1], numbers, _as_row_scales)


def lora_factors(tensor: TensorRecipe) -> dict[str, TensorRecipe]:
    """Return the factors of all LoRAs of a layer, side by side: down (r, in) and up (out, r)."""
    ranks = [delta.rank or 0 for delta in tensor.deltas]
    if not ranks:
        return {}
    rows, columns = tensor.shape
    starts = [sum(ranks[:index]) for index in range(len(ranks))]
    shapes = {LORA_DOWN: (sum(ranks), columns), LORA_UP: (rows, sum(ranks))}
    return {
        part: TensorRecipe(
            _Constant(tensor.source.file, shape, 0.0),
            tuple(
                _Factor(delta, start, part == LORA_UP)
                for delta, start in zip(tensor.deltas, starts, strict=True)
            ),
        )
        for part, shape in shapes.items()
    }


@dataclass(frozen=True)
class _Constant:
    """A source that is one number everywhere. file: stands in errors."""

    file: Path
    shape: tuple[int, ...]
    value: float
    stored_bytes = 0

    def read(self, files: Files) -> Tensor:
        del files
        return torch.full(self.shape, self.value)


@dataclass(frozen=True)
class _Computed:
    """A source that is computed from what its file has.

    of:  the stored tensor, or the numbers of a matrix.
    how: (of, read) -> the tensor; a function of this module, so that equal sources read equal tensors.
    """

    file: Path
    shape: tuple[int, ...]
    of: Any
    how: Callable[[Any, Read], Tensor]

    @property
    def stored_bytes(self) -> int:
        stored = (self.of,) if isinstance(self.of, StoredTensor) else self.of.tensors
        return sum(tensor.stored_bytes for tensor in stored)

    def read(self, files: Files) -> Tensor:
        return self.how(self.of, lambda stored: stored.read(files).to(files.device)).reshape(self.shape)


def _as_float(stored: StoredTensor, read: Read) -> Tensor:
    return read(stored).float()


def _as_bytes(stored: StoredTensor, read: Read) -> Tensor:
    return read(stored).view(torch.uint8)


def _as_row_scales(numbers: _Rows, read: Read) -> Tensor:
    return numbers.row_scales(read)


def _as_integers(numbers: RotatedInt4 | GroupedInt4, read: Read) -> Tensor:
    """Widen numbers of 4 bits to int8, some rows at a time."""
    rows, columns = numbers.shape
    integers, step = numbers.integers(read), max(1, _AT_ONCE // columns)
    parts = [integers(start, min(start + step, rows)).to(torch.int8) for start in range(0, rows, step)]
    return torch.cat(parts)


@dataclass(frozen=True)
class _Factor:
    """One factor of a LoRA as the change of a tensor of zeros that holds those of all LoRAs of a layer."""

    of: Delta
    start: int
    up: bool
    sees_base, adds_in_place, rank = False, True, None

    @property
    def file(self) -> Path:
        return self.of.file

    @property
    def strength(self) -> float:
        return self.of.strength

    def factors(self, files: Files) -> tuple[Tensor, Tensor]:
        return self.of.factors(files)

    def add_to(self, total: Tensor, files: Files, base: Tensor) -> None:
        del base
        up, down = self.factors(files)
        own = slice(self.start, self.start + len(down))
        if self.up:
            total[:, own] = up
        else:
            total[own] = down
