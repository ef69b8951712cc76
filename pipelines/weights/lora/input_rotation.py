"""Computes PEFT's OFT and BOFT, which rotate the inputs of a weight: peft/tuners/oft and boft, layer.py.

With the rotation B of a file, the trained weight is W B^T. LyCORIS rotates outputs instead: `multiplicative`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...device.late_torch import torch
from ..stored_tensors import Files, StoredTensor
from .delta import read_finite
from .metadata import OrthogonalConfig
from .multiplicative import Multiplicative

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["InputButterfly", "InputRotation", "block_width"]


def block_width(numbers: int) -> int | None:
    """Return n of a skew-symmetric matrix (n, n) whose upper triangle has so many numbers, or None."""
    width = (1 + math.isqrt(1 + 8 * numbers)) // 2
    return width if width > 1 and width * (width - 1) // 2 == numbers else None


@dataclass(frozen=True)
class InputRotation(Multiplicative):
    """OFT of PEFT: a rotation for each of k groups of n neighbouring inputs.

    upper: (k, n (n - 1) / 2), the upper triangles of skew-symmetric matrices Q, row by row. With
           `config.block_share` there is one for all groups.
    """

    upper: StoredTensor
    width: int
    config: OrthogonalConfig

    @property
    def matrix(self) -> tuple[None, int | None]:
        return None, None if self.config.block_share else self.upper.shape[0] * self.width

    def value(self, files: Files, base: Tensor) -> Tensor:
        inputs = base.flatten(1).T
        groups = inputs.reshape(-1, self.width, inputs.shape[1])
        return (self._rotations(files) @ groups).flatten(0, 1).T - base.flatten(1)

    def vanishes(self, files: Files) -> bool:
        return not bool(read_finite(files, self.upper).any())

    def _rotations(self, files: Files) -> Tensor:
        upper = read_finite(files, self.upper)
        skew = upper.new_zeros(len(upper), self.width, self.width)
        rows, columns = torch.triu_indices(self.width, self.width, 1, device=upper.device)
        skew[:, rows, columns] = upper
        skew = skew - skew.mT
        if self.config.limit is not None:
            length = torch.linalg.matrix_norm(skew, keepdim=True)
            most = self.config.limit / math.sqrt(len(skew))
            skew = torch.where(length <= most, skew, skew * (most / length))
        if self.config.series_terms is None:
            return _cayley(skew)
        return _series(skew, self.config.series_terms)


@dataclass(frozen=True)
class InputButterfly(Multiplicative):
    """BOFT of PEFT: m rotations of groups of inputs one after another, then a factor for each output.

    blocks: (m, k, n, n), any matrices. Rotations are made from their skew-symmetric part.
    scale:  (out, 1).
    """

    blocks: StoredTensor
    scale: StoredTensor

    @property
    def matrix(self) -> tuple[int, int]:
        return math.prod(self.scale.shape), math.prod(self.blocks.shape[1:3])

    def value(self, files: Files, base: Tensor) -> Tensor:
        blocks, inputs = read_finite(files, self.blocks), base.flatten(1).T
        for level, rotations in enumerate(_cayley((blocks - blocks.mT) / 2)):
            order = self._order(level).to(base.device)
            shuffled = torch.empty_like(inputs).index_copy_(0, order, inputs)
            turned = rotations @ shuffled.reshape(*rotations.shape[:2], -1)
            inputs = turned.flatten(0, 1)[order]
        return inputs.T * read_finite(files, self.scale).reshape(-1, 1) - base.flatten(1)

    def vanishes(self, files: Files) -> bool:
        blocks, scale = read_finite(files, self.blocks), read_finite(files, self.scale)
        return torch.equal(blocks, blocks.mT) and bool((scale == 1).all())

    def _order(self, level: int) -> Tensor:
        """Return the order of the inputs (in,) in which a level has its groups side by side.

        Each stretch of 2^level groups is cut into half groups: first those with even numbers, then the odd.
        """
        count = math.prod(self.blocks.shape[1:3])
        halves = torch.arange(count).reshape(-1, 2**level, 2, self.blocks.shape[2] // 2)
        return halves.transpose(1, 2).flatten()


def _cayley(skew: Tensor) -> Tensor:
    """Return (I - S) (I + S)^-1 of skew-symmetric matrices S (..., n, n)."""
    one = torch.eye(skew.shape[-1], device=skew.device)
    made: Tensor = torch.linalg.solve(one + skew, one - skew, left=False)
    return made


def _series(skew: Tensor, terms: int) -> Tensor:
    """Return PEFT's series of (I + S) (I - S)^-1: I + 2 S + 2 S^2 + ... + S^(terms - 1).

    Its sign is not that of `_cayley`, and with three terms it has the cube too: as PEFT computes it.
    """
    made = torch.eye(skew.shape[-1], device=skew.device).expand_as(skew).clone()
    if terms > 1:
        made += 2 * skew
    if terms > 2:
        power = skew @ skew
        made += 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            made += 2 * power
        made += power @ skew
    return made
