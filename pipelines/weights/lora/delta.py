"""Computes what a LoRA adds to one tensor, in every form that trainers write.

Each form is data: where its factors are stored. All forms are added to the stored tensor while it is loaded,
so a running network has no LoRA modules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...errors import LoraError
from ..stored_tensors import Files, StoredTensor

__all__ = [
    "Difference",
    "Form",
    "Hadamard",
    "Kronecker",
    "LoraDelta",
    "LowRank",
    "Magnitude",
    "Product",
    "by",
]


class Form(Protocol):
    """A change without scale and strength.

    Its `matrix` is (out, everything else), known without reading data.
    """

    @property
    def matrix(self) -> tuple[int, int]: ...

    @property
    def adds_in_place(self) -> bool:
        """Whether `add_to` allocates no tensor as large as the change."""

    def value(self, files: Files) -> Tensor:
        """Return the change, float32 on `files.device`, in the order of `matrix`.

        The caller may overwrite it.
        """

    def add_to(self, total: Tensor, files: Files, times: float) -> None:
        """Add times * the change to `total`. total: float32, with as many elements."""


class _Whole:
    """A form that is computed completely before it is added."""

    @property
    def adds_in_place(self) -> bool:
        return False

    def value(self, files: Files) -> Tensor:
        raise NotImplementedError

    def add_to(self, total: Tensor, files: Files, times: float) -> None:
        total.add_(self.value(files).reshape(total.shape), alpha=times)


@dataclass(frozen=True)
class Difference(_Whole):
    """A stored change (`diff`, `diff_b`, `diff_m`)."""

    tensor: StoredTensor

    @property
    def matrix(self) -> tuple[int, int]:
        return _as_matrix(self.tensor.shape)

    def value(self, files: Files) -> Tensor:
        return _read(files, self.tensor).clone()  # what was read may be the mapped file itself


@dataclass(frozen=True)
class LowRank(_Whole):
    """up @ down: (out, r) and (r, in). With `mid` (r, r, kernel) a convolution in Tucker form."""

    down: StoredTensor
    up: StoredTensor
    mid: StoredTensor | None = None

    @property
    def matrix(self) -> tuple[int, int]:
        kernel = () if self.mid is None else self.mid.shape[2:]
        return self.up.shape[0], math.prod(self.down.shape[1:]) * math.prod(kernel)

    @property
    def adds_in_place(self) -> bool:
        return self.mid is None

    def value(self, files: Files) -> Tensor:
        up, down = self._factors(files)
        return up @ down if self.mid is None else _tucker(_read(files, self.mid), up.T, down)

    def add_to(self, total: Tensor, files: Files, times: float) -> None:
        """Add the change with one matrix product if possible: fewer kernels queue behind a busy GPU."""
        if self.mid is None:
            total.view(self.matrix).addmm_(*self._factors(files), alpha=times)
        else:
            super().add_to(total, files, times)

    def _factors(self, files: Files) -> tuple[Tensor, Tensor]:
        return _read(files, self.up).flatten(1), _read(files, self.down).flatten(1)


@dataclass(frozen=True)
class Product(_Whole):
    """One factor of LoHa or LoKr: a @ b, (n, r) and (r, m). With `core` (r, r, kernel), a is (r, n)."""

    a: StoredTensor
    b: StoredTensor
    core: StoredTensor | None = None

    @property
    def matrix(self) -> tuple[int, int]:
        kernel = () if self.core is None else self.core.shape[2:]
        rows = self.a.shape[0 if self.core is None else 1]
        return rows, math.prod(self.b.shape[1:]) * math.prod(kernel)

    def value(self, files: Files) -> Tensor:
        a, b = _read(files, self.a), _read(files, self.b).flatten(1)
        return a @ b if self.core is None else _tucker(_read(files, self.core), a, b)


@dataclass(frozen=True)
class Hadamard(_Whole):
    """LoHa: the elementwise product of two low-rank factors."""

    first: Product
    second: Product

    @property
    def matrix(self) -> tuple[int, int]:
        return self.first.matrix

    def value(self, files: Files) -> Tensor:
        return self.first.value(files).mul_(self.second.value(files))


@dataclass(frozen=True)
class Kronecker(_Whole):
    """LoKr: the Kronecker product of two factors, each whole or low-rank. The second may have a kernel."""

    first: Difference | Product
    second: Difference | Product

    @property
    def matrix(self) -> tuple[int, int]:
        (rows, columns), (more_rows, more_columns) = self.first.matrix, self.second.matrix
        return rows * more_rows, columns * more_columns

    def value(self, files: Files) -> Tensor:
        return torch.kron(self.first.value(files).flatten(1), self.second.value(files).flatten(1))


@dataclass(frozen=True)
class Magnitude:
    """DoRA: the trained norm of every row (output), or of every column (input), of the changed weight."""

    tensor: StoredTensor
    of_columns: bool

    @property
    def size(self) -> int:
        return math.prod(self.tensor.shape)


@dataclass(frozen=True)
class LoraDelta:
    """scale * form, added to one tensor; with a magnitude, DoRA.

    scale: alpha / rank, applied only here.

    DoRA is interpolated: strength 1 is the trained weight m * (W + D) / |W + D|, and strength s is W + s *
    (that - W). W is always the stored tensor, so other LoRAs and their order have no influence. (Scaling D
    before the norm would make strength 0 differ from no LoRA.)
    """

    file: Path
    strength: float
    scale: float
    form: Form
    magnitude: Magnitude | None = None

    @property
    def sees_base(self) -> bool:
        return self.magnitude is not None

    @property
    def adds_in_place(self) -> bool:
        return self.magnitude is None and self.form.adds_in_place

    def add_to(self, total: Tensor, files: Files, base: Tensor) -> None:
        """Add the change to `total`.

        Raises LoraError if the file has NaN or Inf, ModelError if it cannot be read.
        """
        if self.magnitude is None:
            self.form.add_to(total, files, self.scale * self.strength)
            return
        added = self.form.value(files).reshape(base.shape).mul_(self.scale)
        magnitude = _read(files, self.magnitude.tensor)
        total.add_(_decomposed(base, added, magnitude, self.magnitude.of_columns), alpha=self.strength)


def _decomposed(base: Tensor, added: Tensor, magnitude: Tensor, of_columns: bool) -> Tensor:
    """Return what DoRA adds to `base` (out, in, ...): every row or column of the sum gets its magnitude.

    The result overwrites `added`.
    """
    kept = 1 if of_columns else 0
    changed = added.add_(base)
    others = [axis for axis in range(changed.ndim) if axis != kept]
    length = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    length.clamp_(min=torch.finfo(length.dtype).tiny)  # a row of zeros has no direction and stays zero
    return changed.mul_(magnitude.reshape(length.shape) / length).sub_(base)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the convolution (out, in, kernel), kernel flattened.

    core: (r, s, kernel). a: (r, out). b: (s, in).
    """
    return torch.einsum("rsk,ro,si->oik", core.flatten(2), a, b)


def by(shape: Sequence[int]) -> str:
    """Return a shape as text, such as 5120x5120."""
    return "x".join(map(str, shape)) or "a single number"


def _as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0] if shape else 1, math.prod(shape[1:])


def _read(files: Files, stored: StoredTensor) -> Tensor:
    if stored not in files.finite:  # looked through on the CPU: a device would have to be waited for
        if not bool(torch.isfinite(files.mapped(stored.file, stored.key).to(torch.float32)).all()):
            raise LoraError(f"{stored.file.name}: {stored.key} contains NaN or Inf; the file is damaged")
        files.finite.add(stored)
    return stored.read(files).to(torch.float32).to(files.device)  # not every device knows float64 and fp8
