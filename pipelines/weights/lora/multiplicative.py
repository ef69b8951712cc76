"""Computes changes that multiply the stored weight: OFT, BOFT and GLoRA.

LyCORIS writes them (lycoris/modules: diag_oft.py, boft.py, glora.py); the formulas are from there. Each is
returned as a difference W' - W, so a strength interpolates linearly from the stored to the trained weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...device.late_torch import torch
from ..stored_tensors import Files, StoredTensor
from .delta import WholeForm, any_zero, read_finite

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Butterfly", "GeneralizedLora", "Multiplicative", "Replacement", "Rotation"]


class Multiplicative(WholeForm):
    """A form that is computed from the stored tensor."""

    @property
    def sees_base(self) -> bool:
        return True


@dataclass(frozen=True)
class Replacement(Multiplicative):
    """A whole trained tensor (`set_weight`). Strength 1 replaces the stored one, 0.5 goes half the way."""

    tensor: StoredTensor

    @property
    def matrix(self) -> tuple[int, int]:
        return self.tensor.shape[0] if self.tensor.shape else 1, math.prod(self.tensor.shape[1:])

    def value(self, files: Files, base: Tensor) -> Tensor:
        return read_finite(files, self.tensor).reshape(base.shape) - base

    def vanishes(self, files: Files) -> bool:
        read_finite(files, self.tensor)
        return False


@dataclass(frozen=True)
class _Orthogonal(Multiplicative):
    """A rotation of the outputs of a weight.

    blocks:     (..., n, n), any matrices Q. Rotations are made from their skew-symmetric part.
    constraint: largest norm of that part; None or 0 for no limit. LyCORIS stores it as the alpha.
    rescale:    (out, 1, ...), a factor for each output; or None.
    """

    blocks: StoredTensor
    rescale: StoredTensor | None = None
    constraint: float | None = None

    def value(self, files: Files, base: Tensor) -> Tensor:
        rotated = self._rotated(self._rotations(files), base.flatten(1))
        if self.rescale is not None:
            rotated = rotated * read_finite(files, self.rescale).reshape(-1, 1)
        return rotated - base.flatten(1)

    def vanishes(self, files: Files) -> bool:
        blocks = read_finite(files, self.blocks)
        unscaled = self.rescale is None or bool((read_finite(files, self.rescale) == 1).all())
        return unscaled and torch.equal(blocks, blocks.mT)

    def _rotations(self, files: Files) -> Tensor:
        """Return the rotations by Cayley's transform, (I + S) (I - S)^-1 of S = Q - Q^T: (..., n, n)."""
        blocks = read_finite(files, self.blocks)
        skew = blocks - blocks.mT
        if self.constraint:
            skew = skew * min(1.0, self.constraint / (float(torch.linalg.vector_norm(skew)) + 1e-8))
        one = torch.eye(skew.shape[-1], device=skew.device)
        rotations: Tensor = torch.linalg.solve(one - skew, one + skew, left=False)
        return rotations

    def _rotated(self, rotations: Tensor, weight: Tensor) -> Tensor:
        """Return the rotated `weight` (out, columns)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rotation(_Orthogonal):
    """OFT: a rotation for each of k groups of n neighbouring outputs. blocks: (k, n, n)."""

    @property
    def matrix(self) -> tuple[int, None]:
        return math.prod(self.blocks.shape[:2]), None

    def _rotated(self, rotations: Tensor, weight: Tensor) -> Tensor:
        groups = weight.reshape(*rotations.shape[:2], -1)
        return (rotations.mT @ groups).flatten(0, 1)


@dataclass(frozen=True)
class Butterfly(_Orthogonal):
    """BOFT: m rotations one after another, each of other groups of outputs. blocks: (m, k, n, n).

    The i-th takes as neighbours the outputs that stand 2^i * n / 2 apart.
    """

    @property
    def matrix(self) -> tuple[int, None]:
        return math.prod(self.blocks.shape[1:3]), None

    def _rotated(self, rotations: Tensor, weight: Tensor) -> Tensor:
        for level, rotation in enumerate(rotations):
            apart = 2**level * (rotation.shape[-1] // 2)
            columns = weight.shape[1]
            groups = (
                weight.reshape(-1, 2, apart, columns).transpose(1, 2).reshape(*rotation.shape[:2], columns)
            )
            back = (rotation @ groups).reshape(-1, apart, 2, columns)
            weight = back.transpose(1, 2).reshape(-1, columns)
        return weight


@dataclass(frozen=True)
class GeneralizedLora(Multiplicative):
    """GLoRA: W @ first + second, each of low rank. In a convolution `first` mixes the input channels.

    first:  (in, r) and (r, in).
    second: (out, r) and (r, in, kernel).
    """

    first: tuple[StoredTensor, StoredTensor]
    second: tuple[StoredTensor, StoredTensor]

    @property
    def matrix(self) -> tuple[int, int]:
        up, down = self.second
        return up.shape[0], math.prod(down.shape[1:])

    def value(self, files: Files, base: Tensor) -> Tensor:
        into, out = (read_finite(files, tensor).flatten(1) for tensor in self.first)
        up, down = (read_finite(files, tensor).flatten(1) for tensor in self.second)
        channels = base.flatten(2) if base.dim() > 2 else base.unsqueeze(-1)
        mixed = torch.einsum("oik,ir,rj->ojk", channels, into, out).flatten(1)
        return mixed.addmm_(up, down)

    def vanishes(self, files: Files) -> bool:
        first, second = any_zero(files, *self.first), any_zero(files, *self.second)
        return first and second
