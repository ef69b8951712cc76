"""Computes what a LoRA adds to one tensor, in every form that trainers write.

Each form is data: where its factors are stored. All forms are added to the stored tensor while it is loaded,
so a running network has no LoRA modules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...device.late_torch import torch
from ...errors import LoraError
from ..stored_tensors import Files, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Difference",
    "Form",
    "Hadamard",
    "Kronecker",
    "LoraDelta",
    "LowRank",
    "Magnitude",
    "Product",
    "WholeForm",
    "any_zero",
    "by",
    "read_finite",
]


class Form(Protocol):
    """A change without scale and strength.

    Its `matrix` is (out, everything else), known without reading data. None: it fits any number of them.
    """

    @property
    def matrix(self) -> tuple[int | None, int | None]: ...

    @property
    def sees_base(self) -> bool:
        """Whether the change depends on the stored tensor."""

    @property
    def adds_in_place(self) -> bool:
        """Whether `add_to` allocates no tensor as large as the change."""

    def value(self, files: Files, base: Tensor) -> Tensor:
        """Return the change, float32 on `files.device`, in the order of `matrix`.

        The caller may overwrite it.

        base: the tensor as stored, float32 on `files.device`.
        """

    def add_to(self, total: Tensor, files: Files, times: float, base: Tensor) -> None:
        """Add times * the change to `total`. total: float32, with as many elements."""

    def vanishes(self, files: Files) -> bool:
        """Return whether it changes nothing, whatever the stored tensor is. Reads the factors.

        Raises LoraError if one has NaN or Inf.
        """


class WholeForm:
    """A form that is computed completely before it is added."""

    @property
    def adds_in_place(self) -> bool:
        return False

    def value(self, files: Files, base: Tensor) -> Tensor:
        raise NotImplementedError

    def add_to(self, total: Tensor, files: Files, times: float, base: Tensor) -> None:
        total.add_(self.value(files, base).reshape(total.shape), alpha=times)


class _Additive(WholeForm):
    """A form that is the same for every stored tensor."""

    @property
    def sees_base(self) -> bool:
        return False

    def value(self, files: Files, base: Tensor) -> Tensor:
        del base
        return self.read(files)

    def read(self, files: Files) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Difference(_Additive):
    """A stored change (`diff`, `diff_b`, `diff_m`)."""

    tensor: StoredTensor

    @property
    def matrix(self) -> tuple[int, int]:
        return _as_matrix(self.tensor.shape)

    def read(self, files: Files) -> Tensor:
        return read_finite(files, self.tensor).clone()  # the tensor may be the mapped file itself

    def vanishes(self, files: Files) -> bool:
        return any_zero(files, self.tensor)


@dataclass(frozen=True)
class LowRank(_Additive):
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

    @property
    def rank(self) -> int | None:
        """None with `mid`: then it is no product of two factors."""
        return self.down.shape[0] if self.mid is None else None

    def read(self, files: Files) -> Tensor:
        up, down = self.factors(files)
        return up @ down if self.mid is None else _tucker(read_finite(files, self.mid), up.T, down)

    def add_to(self, total: Tensor, files: Files, times: float, base: Tensor) -> None:
        """Add the change with one matrix product if possible: fewer kernels queue behind a busy GPU."""
        if self.mid is None:
            total.view(self.matrix).addmm_(*self.factors(files), alpha=times)
        else:
            super().add_to(total, files, times, base)

    def vanishes(self, files: Files) -> bool:
        return any_zero(files, self.down, self.up, self.mid)

    def factors(self, files: Files) -> tuple[Tensor, Tensor]:
        """Return up (out, r) and down (r, in)."""
        return read_finite(files, self.up).flatten(1), read_finite(files, self.down).flatten(1)


@dataclass(frozen=True)
class Product(_Additive):
    """One factor of LoHa or LoKr: a @ b, (n, r) and (r, m). With `core` (r, r, kernel), a is (r, n)."""

    a: StoredTensor
    b: StoredTensor
    core: StoredTensor | None = None

    @property
    def matrix(self) -> tuple[int, int]:
        kernel = () if self.core is None else self.core.shape[2:]
        rows = self.a.shape[0 if self.core is None else 1]
        return rows, math.prod(self.b.shape[1:]) * math.prod(kernel)

    def read(self, files: Files) -> Tensor:
        a, b = read_finite(files, self.a), read_finite(files, self.b).flatten(1)
        return a @ b if self.core is None else _tucker(read_finite(files, self.core), a, b)

    def vanishes(self, files: Files) -> bool:
        return any_zero(files, self.a, self.b, self.core)


@dataclass(frozen=True)
class Hadamard(_Additive):
    """LoHa: the elementwise product of two low-rank factors."""

    first: Product
    second: Product

    @property
    def matrix(self) -> tuple[int, int]:
        return self.first.matrix

    def read(self, files: Files) -> Tensor:
        return self.first.read(files).mul_(self.second.read(files))

    def vanishes(self, files: Files) -> bool:
        first, second = self.first.vanishes(files), self.second.vanishes(files)  # both are looked through
        return first or second


@dataclass(frozen=True)
class Kronecker(_Additive):
    """LoKr: the Kronecker product of two factors, each whole or low-rank. The second may have a kernel."""

    first: Difference | Product
    second: Difference | Product

    @property
    def matrix(self) -> tuple[int, int]:
        (rows, columns), (more_rows, more_columns) = self.first.matrix, self.second.matrix
        return rows * more_rows, columns * more_columns

    def read(self, files: Files) -> Tensor:
        return torch.kron(self.first.read(files).flatten(1), self.second.read(files).flatten(1))

    def vanishes(self, files: Files) -> bool:
        first, second = self.first.vanishes(files), self.second.vanishes(files)  # both are looked through
        return first or second


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
        return self.magnitude is not None or self.form.sees_base

    @property
    def adds_in_place(self) -> bool:
        return self.magnitude is None and self.form.adds_in_place

    @property
    def rank(self) -> int | None:
        return self.form.rank if self.magnitude is None and isinstance(self.form, LowRank) else None

    def factors(self, files: Files) -> tuple[Tensor, Tensor]:
        """Raises LoraError for a change without a rank, else as `add_to`."""
        if self.rank is None or not isinstance(self.form, LowRank):
            raise LoraError(f"{self.file.name}: a {type(self.form).__name__} has no factors")
        up, down = self.form.factors(files)
        return up * (self.scale * self.strength), down

    def add_to(self, total: Tensor, files: Files, base: Tensor) -> None:
        """Add the change to `total`.

        Raises LoraError if the file has NaN or Inf, ModelError if it cannot be read.
        """
        if self.magnitude is None:
            self.form.add_to(total, files, self.scale * self.strength, base)
            return
        added = self.form.value(files, base).reshape(base.shape).mul_(self.scale)
        magnitude = read_finite(files, self.magnitude.tensor)
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


def any_zero(files: Files, *tensors: StoredTensor | None) -> bool:
    """Return whether a tensor has only zeros. Every one is read, so that NaN in any of them is noticed."""
    zero = [not read_finite(files, tensor).any() for tensor in tensors if tensor is not None]
    return any(zero)


def read_finite(files: Files, stored: StoredTensor) -> Tensor:
    """Return a tensor of a LoRA file, float32 on `files.device`. Raises LoraError if it has NaN or Inf."""
    if stored not in files.finite:  # checked on the CPU: checking on a device would wait for it
        if not bool(torch.isfinite(files.mapped(stored.file, stored.key).to(torch.float32)).all()):
            raise LoraError(f"{stored.file.name}: {stored.key} contains NaN or Inf; the file is damaged")
        files.finite.add(stored)
    return stored.read(files).to(torch.float32).to(files.device)  # not every device knows float64 and fp8
