"""Numbers with a scale for each block of a row (mxfp8, nvfp4), as matrix units of devices read them.

Sources: OCP Microscaling Formats v1.0 for e2m1 and e8m0; NVIDIA's "Block Scaling Factors Layout" (cuBLAS) for
the order of the scales; comfy-kitchen 0.2.31 (float_utils.py), which packs the even number in the high bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..device.late_torch import F, torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "e8m0_scale",
    "from_e2m1",
    "in_order",
    "in_tiles",
    "per_token",
    "scale_grid",
    "scale_sides",
    "to_e2m1",
]

# The values of e2m1 by their bits: two of exponent, one of mantissa (OCP Microscaling v1.0, 5.3.3).
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# The largest float32 that is rounded to each of them but the last; ties go to the even mantissa.
_BOUNDS = (0.25, 0.75 - 2**-24, 1.25, 1.75 - 2**-23, 2.5, 3.5 - 2**-22, 5.0)
_GRID_ROWS, _GRID_COLUMNS = 128, 4  # of one tile of block scales, stored as 32 lines of 16


def scale_grid(rows: int, columns: int) -> int:
    """Return how many block scales are stored for a grid of rows x columns: whole tiles."""
    return math.prod(scale_sides(rows, columns))


def scale_sides(rows: int, columns: int) -> tuple[int, int]:
    """Return the sides of a grid of rows x columns block scales in whole tiles."""
    return _up(rows, _GRID_ROWS), _up(columns, _GRID_COLUMNS)


def in_order(stored: Tensor, rows: int, columns: int) -> Tensor:
    """Return the (rows, columns) block scales that are stored in tiles for the matrix units of a device.

    Tiles of 128 rows and 4 columns follow each other row by row. In a tile, line r holds the scales of the
    rows r, 32 + r, 64 + r and 96 + r, four each.
    """
    across = _up(columns, _GRID_COLUMNS) // _GRID_COLUMNS
    tiles = stored.reshape(-1, across, 32, 4, _GRID_COLUMNS)  # (down, across, line, quarter, column)
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1, across * _GRID_COLUMNS)[:rows, :columns]


def in_tiles(scales: Tensor) -> Tensor:
    """Return (rows, columns) block scales as `in_order` finds them, padded with zeros, in one dimension."""
    rows, columns = scales.shape
    padding = (0, _up(columns, _GRID_COLUMNS) - columns, 0, _up(rows, _GRID_ROWS) - rows)
    whole = F.pad(scales, padding)
    tiles = whole.reshape(-1, 4, 32, whole.shape[1] // _GRID_COLUMNS, _GRID_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).flatten()


def per_token(tokens: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """Divide each token by its scale (M, 1), in place, so that its largest number is `largest`."""
    scale = torch.linalg.vector_norm(tokens, math.inf, dim=1, keepdim=True) / largest
    scale.clamp_(min=torch.finfo(torch.float32).tiny)  # a token of zeros stays zero
    return tokens.div_(scale), scale


def e8m0_scale(exponents: Tensor) -> Tensor:
    """Return the powers of two of e8m0 bytes, float32. The byte 0 gives 0."""
    return (exponents.int() << 23).view(torch.float32)  # the exponent of a float32


def from_e2m1(packed: Tensor) -> Tensor:
    """Return (rows, 2 n) numbers, float32, of (rows, n) bytes: two each, the even one in the high bits."""
    values = torch.tensor([*_E2M1, *(-value for value in _E2M1)], device=packed.device)
    return values[torch.stack([packed >> 4, packed & 15], -1).int()].flatten(1)


def to_e2m1(numbers: Tensor) -> Tensor:
    """Round float32 numbers to the nearest of e2m1, at most 6, and pack them as `from_e2m1` reads them."""
    bounds = torch.tensor(_BOUNDS, dtype=torch.float32, device=numbers.device)
    codes = torch.bucketize(numbers.abs(), bounds).to(torch.uint8) | (numbers.signbit().to(torch.uint8) << 3)
    return (codes[:, 0::2] << 4) | codes[:, 1::2]


def _up(number: int, by: int) -> int:
    return -(-number // by) * by
