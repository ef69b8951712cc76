"""Decodes the formats that quantised matrices are stored in, some rows at a time, in float32.

Sources: comfy-kitchen 0.2.31 (backends/eager, float_utils.py), which ComfyUI reads with; musubi-tuner
(fp8_optimization_utils.py) for blocks along a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..device.late_torch import torch
from ..kernels.block_scales import e8m0_scale, from_e2m1, in_order
from .stored_tensors import StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BlockFloat4",
    "BlockFloat8",
    "GroupedInt4",
    "NumberFormat",
    "Read",
    "RotatedInt4",
    "Rows",
    "ScaledNumbers",
    "ceil_div",
]

Read = Callable[[StoredTensor], "Tensor"]
Rows = Callable[[int, int], "Tensor"]  # (start, stop) -> float32, (stop - start, columns)


class NumberFormat(Protocol):
    """How the numbers of one matrix are stored.

    tile: rows and columns are padded with zeros to multiples of these.
    """

    @property
    def tensors(self) -> tuple[StoredTensor, ...]: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the decoded numbers, with padding."""

    @property
    def tile(self) -> tuple[int, int]: ...

    def decoder(self, read: Read) -> Rows:
        """Return a function that decodes some rows. `read` returns a tensor on the device to decode on."""


@dataclass(frozen=True)
class ScaledNumbers:
    """Numbers of any type times float scales.

    block:  rows and columns that share a scale.
    factor: one number that all scales are multiplied by.
    """

    weight: StoredTensor
    scale: StoredTensor
    block: tuple[int, int]
    factor: StoredTensor | None = None
    tile = (1, 1)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        return (self.weight, self.scale, *(() if self.factor is None else (self.factor,)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def decodes_in_place(self) -> bool:
        """Whether each row has one scale, so that decoding needs no memory beside the result."""
        return self.block[1] >= math.prod(self.shape[1:])

    def decoder(self, read: Read) -> Rows:
        weight = read(self.weight)
        weight = weight.reshape(weight.shape[0] if self.shape else 1, -1)
        block_columns, scale = self.block[1], self.row_scales(read)

        def rows(start: int, stop: int) -> Tensor:
            of_rows = scale[start:stop]
            if of_rows.shape[1] > 1:
                of_rows = of_rows.repeat_interleave(block_columns, 1)[:, : weight.shape[1]]
            return weight[start:stop].to(torch.float32, copy=True).mul_(of_rows)

        return rows

    def row_scales(self, read: Read) -> Tensor:
        """Return the scales of every row (rows, blocks), float32."""
        rows, block_rows = (self.shape or (1,))[0], self.block[0]
        scale = read(self.scale).float().reshape(ceil_div(rows, block_rows), -1)
        if self.factor is not None:
            scale = scale * read(self.factor).float()
        return scale[torch.arange(rows, device=scale.device) // block_rows]


@dataclass(frozen=True)
class BlockFloat8:
    """mxfp8: e4m3 numbers, each 32 of a row with a power of two (e8m0)."""

    weight: StoredTensor
    scale: StoredTensor
    tile = (32, 32)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        return self.weight, self.scale

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    def decoder(self, read: Read) -> Rows:
        weight = read(self.weight)
        exponents = in_order(read(self.scale).view(torch.uint8), len(weight), weight.shape[1] // 32)
        scale = e8m0_scale(exponents)[..., None]

        def rows(start: int, stop: int) -> Tensor:
            blocks = weight[start:stop].float().reshape(stop - start, -1, 32)
            return (blocks * scale[start:stop]).flatten(1)

        return rows


@dataclass(frozen=True)
class BlockFloat4:
    """nvfp4: e2m1 numbers, two to a byte and the even one in the high bits, each 16 of a row with a scale.

    The scales are e4m3, and all are multiplied by `factor`.
    """

    weight: StoredTensor
    scale: StoredTensor
    factor: StoredTensor
    tile = (16, 16)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        return self.weight, self.scale, self.factor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape[0], self.weight.shape[1] * 2

    def decoder(self, read: Read) -> Rows:
        packed = read(self.weight)
        stored = in_order(read(self.scale).view(torch.uint8), len(packed), packed.shape[1] // 8)
        scale = (read(self.factor).float().reshape(()) * stored.view(torch.float8_e4m3fn).float())[..., None]

        def rows(start: int, stop: int) -> Tensor:
            numbers = from_e2m1(packed[start:stop])
            return (numbers.reshape(stop - start, -1, 16) * scale[start:stop]).flatten(1)

        return rows


@dataclass(frozen=True)
class RotatedInt4:
    """convrot_w4a4: signed 4-bit integers, two to a byte, the even one in the low bits; a scale per row."""

    weight: StoredTensor
    scale: StoredTensor
    tile = (1, 1)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        return self.weight, self.scale

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape[0], self.weight.shape[1] * 2

    def decoder(self, read: Read) -> Rows:
        return _times(self.integers(read), self.row_scales(read))

    def integers(self, read: Read) -> Rows:
        """Return a function that decodes some rows without their scale: whole numbers, -8 to 7."""
        packed = read(self.weight).view(torch.uint8)

        def rows(start: int, stop: int) -> Tensor:
            signed = (_low_first(packed[start:stop]).to(torch.int8) ^ 8) - 8  # two's complement
            return signed.float()

        return rows

    def row_scales(self, read: Read) -> Tensor:
        """Return the scale of every row (rows, 1), float32."""
        return read(self.scale).float().reshape(-1, 1)


@dataclass(frozen=True)
class GroupedInt4:
    """asym_w4a8_int8: indices of 4 bits, packed as in `RotatedInt4`, that become 8-bit integers.

    An index stands for a value of the codebook (16 numbers; without one, -8 to 7). Times the scale of its
    `group` of a row it is rounded to an integer, which is multiplied by the scale of the row.
    """

    weight: StoredTensor
    group_scale: StoredTensor
    row_scale: StoredTensor
    codebook: StoredTensor | None
    group: int
    tile = (1, 1)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        found = (self.weight, self.group_scale, self.row_scale)
        return found if self.codebook is None else (*found, self.codebook)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape[0], self.weight.shape[1] * 2

    def decoder(self, read: Read) -> Rows:
        return _times(self.integers(read), self.row_scales(read))

    def integers(self, read: Read) -> Rows:
        """Return a function that decodes some rows without their scale: whole numbers, -127 to 127."""
        packed, stored = read(self.weight).view(torch.uint8), read(self.group_scale)
        group_scale = (stored.view(torch.float8_e4m3fn) if stored.dtype == torch.uint8 else stored).float()
        plain = torch.arange(-8.0, 8.0, device=packed.device)
        values = plain if self.codebook is None else read(self.codebook).float().reshape(16)

        def rows(start: int, stop: int) -> Tensor:
            grouped = values[_low_first(packed[start:stop]).int()].reshape(stop - start, -1, self.group)
            return (grouped * group_scale[start:stop, :, None]).round_().clamp_(-127, 127).flatten(1)

        return rows

    def row_scales(self, read: Read) -> Tensor:
        """Return the scale of every row (rows, 1), float32."""
        return read(self.row_scale).float().reshape(-1, 1)


def ceil_div(number: int, by: int) -> int:
    return -(-number // by)


def _times(integers: Rows, row_scales: Tensor) -> Rows:
    return lambda start, stop: integers(start, stop) * row_scales[start:stop]


def _low_first(packed: Tensor) -> Tensor:
    """Unpack (rows, n) bytes to (rows, 2 n) numbers of 4 bits, the low half of a byte first."""
    return torch.stack([packed & 15, packed >> 4], -1).flatten(1)
