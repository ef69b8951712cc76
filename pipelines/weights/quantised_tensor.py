"""A quantised matrix as a source: decoded, its rotation undone, its columns scaled, its padding cut off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..device.late_torch import torch
from .number_formats import NumberFormat, ScaledNumbers, ceil_div
from .stored_tensors import Files, Source, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["QuantisedTensor", "unpadded", "unrotated"]

# Numbers; bounds what is needed beside the result. The first suits the caches of a CPU; a device wants few
# launches.
_AT_ONCE_CPU, _AT_ONCE_DEVICE = 2**20, 2**22


@dataclass(frozen=True)
class QuantisedTensor:
    """A matrix in one of the formats of `number_formats`.

    shape:    of the network's parameter; what is stored may be padded.
    rotation: columns per group that were rotated together before they were quantised; 0 if none were.
    smoothing: what the inputs of the layer are multiplied by, one number per column (`pre_quant_scale` of
               NVIDIA's ModelOpt). The columns of the weight are multiplied instead.
    """

    numbers: NumberFormat
    shape: tuple[int, ...]
    rotation: int = 0
    smoothing: StoredTensor | None = None

    @property
    def weight(self) -> StoredTensor:
        return self.numbers.tensors[0]

    @property
    def file(self) -> Path:
        return self.weight.file

    @property
    def stored_bytes(self) -> int:
        beside = () if self.smoothing is None else (self.smoothing,)
        return sum(stored.stored_bytes for stored in (*self.numbers.tensors, *beside))

    @property
    def is_scaled_fp8(self) -> bool:
        """Whether these are 8-bit floats with one scale, or one per row: ComfyUI 0.25 reads no other."""
        numbers = self.numbers
        return (
            isinstance(numbers, ScaledNumbers)
            and numbers.weight.dtype.startswith("F8")
            and math.prod(numbers.scale.shape) in (1, *self.shape[:1])
            and numbers.factor is None
            and self.smoothing is None
        )

    def read(self, files: Files) -> Tensor:
        device = torch.device("cpu") if files.device.type == "mps" else files.device  # no 8-bit floats there
        if 0 in self.shape:
            return torch.empty(self.shape, device=device)  # a network that has no such tensor refuses it

        def on_device(stored: StoredTensor) -> Tensor:
            return stored.read(files).to(device)

        decode = self.numbers.decoder(on_device)
        smoothing = None if self.smoothing is None else on_device(self.smoothing).float().reshape(1, -1)
        rows, columns = (self.shape or (1,))[0], math.prod(self.shape[1:])
        plain = not self.rotation and smoothing is None
        if plain and isinstance(self.numbers, ScaledNumbers) and self.numbers.decodes_in_place:
            return decode(0, rows).reshape(self.shape)
        total = torch.empty(rows, columns, device=device)
        at_once = _AT_ONCE_CPU if device.type == "cpu" else _AT_ONCE_DEVICE
        step = max(1, at_once // max(1, math.prod(self.numbers.shape[1:])))
        for start in range(0, rows, step):
            part = decode(start, min(start + step, rows))
            if self.rotation:
                part = unrotated(part, self.rotation)
            part = part[:, :columns]
            total[start : start + step] = part if smoothing is None else part * smoothing
        return total.reshape(self.shape)


def unrotated(rows: Tensor, group: int) -> Tensor:
    """Undo the rotation of each group of columns by a regular Hadamard matrix (ConvRot). float32.

    The matrix is the n-th Kronecker power of a 4 x 4 one, divided by its norm; group: 4 to the n. It is its
    own inverse. A row of the 4 x 4 matrix adds all four numbers and subtracts one of them twice, so no matrix
    product is needed, which a device might compute in TF32.

    Source: comfy-kitchen 0.2.31, tensor/int8_utils.py.
    """
    digits = _power_of_four(group)
    numbers = rows.reshape(-1, *[4] * digits)
    for axis in range(1, digits + 1):
        numbers = numbers.sum(axis, keepdim=True) - 2 * numbers.flip(axis)
    return numbers.reshape(rows.shape) * 2.0**-digits


def unpadded(tensors: Mapping[str, Source], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Source]:
    """Return the tensors with those cropped to the shapes of the network that are stored with padding.

    A tensor whose stored shape is not the network's, padded as its format pads, stays as it is.
    """
    return {name: _cropped(source, shapes.get(name)) for name, source in tensors.items()}


def _cropped(source: Source, shape: tuple[int, ...] | None) -> Source:
    if not isinstance(source, QuantisedTensor) or shape is None or len(shape) != 2:
        return source
    tile, smoothing = source.numbers.tile, source.smoothing
    padded = tuple(ceil_div(side, by) * by for side, by in zip(shape, tile, strict=True))
    smooth = smoothing is None or math.prod(smoothing.shape) == shape[1]
    return replace(source, shape=shape) if padded == source.numbers.shape and smooth else source


def _power_of_four(group: int) -> int:
    return (group.bit_length() - 1) // 2
