"""Converts the tensors that a LoRA file has for one module into changes of its parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ...errors import LoraError, ModelError
from ..stored_tensors import Files, StoredTensor
from .delta import Difference, Form, Hadamard, Kronecker, LoraDelta, LowRank, Magnitude, Product, by
from .input_rotation import InputButterfly, InputRotation, block_width
from .lora_names import LoraKey, NamedExpert
from .metadata import AdapterConfig
from .multiplicative import Butterfly, GeneralizedLora, Replacement, Rotation

__all__ = ["Change", "Parts"]

_NUMBERS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_PART_NAMES = {"down": "lora_A (lora_down)", "up": "lora_B (lora_up)"}


@dataclass(frozen=True)
class Change:
    """The change of one parameter.

    name:   the parameter, in diffusers' names.
    expert: the only one that it is for; empty if the file does not say.
    kind:   LoRA, LoHa, LoKr (each also with ` + DoRA`), OFT, BOFT (of LyCORIS, or of PEFT), GLoRA,
            difference or replacement.
    rank:   None if nothing is factored.
    alpha:  None if the file states none.
    scale:  alpha / rank (alpha / sqrt(rank) for rank-stabilised adapters), 1 without an alpha.
    keys:   all keys of the file that it is made of.
    """

    name: str
    expert: NamedExpert
    kind: str
    form: Form
    keys: tuple[str, ...]
    magnitude: Magnitude | None = None
    rank: int | None = None
    alpha: float | None = None
    scale: float = 1.0

    def delta(self, file: Path, strength: float) -> LoraDelta:
        return LoraDelta(file, strength, self.scale, self.form, self.magnitude)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether it can be added to a parameter of this shape."""
        rows, columns = self.form.matrix
        if rows not in (None, shape[0]) or columns not in (None, math.prod(shape[1:])):
            return False
        if isinstance(self.form, InputRotation) and math.prod(shape[1:]) % self.form.width:
            return False
        magnitude = self.magnitude
        return magnitude is None or not magnitude.of_columns or magnitude.size == shape[1]


class Parts:
    """The tensors of one module by their role. Those that become changes are removed.

    `left` are those that belong to no change, such as an alpha alone.
    """

    def __init__(self, file: Path, key: LoraKey) -> None:
        """key: any key of the module."""
        self._file, self._module, self._expert = file, key.module, key.expert
        self._names = (key.module, key.path)
        self._parts: dict[str, StoredTensor] = {}
        self._used: list[str] = []

    def add(self, part: str, tensor: StoredTensor) -> None:
        """Add a tensor. Raises LoraError if the file has the same part under another name."""
        if part in self._parts:
            raise self._error(
                f"has both {self._parts[part].key} and {tensor.key}; only one LoRA per file is supported"
            )
        self._parts[part] = tensor

    @property
    def left(self) -> list[str]:
        return [tensor.key for tensor in self._parts.values()]

    def changes(self, config: AdapterConfig | None, files: Files) -> list[Change]:
        """Return the changes. Raises LoraError if a part is missing or the parts do not match each other."""
        bare = self._module.endswith(("scale_shift_table", ".pos_embed"))  # parameters without a module
        weight, bias = self._module if bare else f"{self._module}.weight", f"{self._module}.bias"
        found: list[Change] = []
        for kind, read in (("LoRA", self._low_rank), ("LoHa", self._hadamard), ("LoKr", self._kronecker)):
            factored = read()
            if factored is None:
                continue
            form, rank = factored
            alpha, scale = self._alpha_and_scale(rank, config, files)
            magnitude = self._magnitude(form.matrix)
            kind = kind if magnitude is None else f"{kind} + DoRA"
            keys = self._keys()
            found.append(Change(weight, self._expert, kind, form, keys, magnitude, rank, alpha, scale))
            if (up_bias := self._take("up_bias")) is not None:
                difference = Difference(up_bias)
                found.append(Change(bias, self._expert, "difference", difference, self._keys(), scale=scale))
        found += [*self._generalized(weight, files), *self._orthogonal(weight, files)]
        found += self._orthogonal_of_peft(weight, config)
        for part, name in (("diff", weight), ("diff_b", bias)):
            if (tensor := self._take(part)) is not None:
                found.append(Change(name, self._expert, "difference", Difference(tensor), self._keys()))
        if (tensor := self._take("set_weight")) is not None:
            found.append(Change(weight, self._expert, "replacement", Replacement(tensor), self._keys()))
        return found

    def _generalized(self, weight: str, files: Files) -> list[Change]:
        """Return the change of GLoRA, if there is one.

        Old files have the factors of each product swapped. On a square weight both can be read: then
        the one of lower rank is right.
        """
        if not {"a1", "a2", "b1", "b2"} & self._parts.keys():
            return []
        a1, a2, b1, b2 = (self._need(part) for part in ("a1", "a2", "b1", "b2"))
        if a1.shape[0] < a1.shape[1]:
            a1, a2, b1, b2 = a2, a1, b2, b1
        self._agree(a1.shape[1], a2.shape[0], a1, a2)
        self._agree(b1.shape[1], b2.shape[0], b1, b2)
        self._agree(a1.shape[1], b1.shape[1], a1, b1)
        if not a1.shape[0] == a2.shape[1] == b2.shape[1]:
            raise self._error(f"has GLoRA factors of different widths, {by(a1.shape)} and {by(b2.shape)}")
        rank = a1.shape[1]
        alpha, scale = self._alpha_and_scale(rank, None, files)
        form = GeneralizedLora((a1, a2), (b1, b2))
        return [
            Change(weight, self._expert, "GLoRA", form, self._keys(), rank=rank, alpha=alpha, scale=scale)
        ]

    def _orthogonal(self, weight: str, files: Files) -> list[Change]:
        """Return the change of OFT or BOFT, if there is one. Its alpha is a limit, no scale."""
        blocks = self._need_if_there("oft_blocks")
        if blocks is None:
            return []
        shape = blocks.shape
        if len(shape) not in (3, 4) or shape[-1] != shape[-2] or (len(shape) == 4 and shape[-1] % 2):
            raise self._error(
                f"has {blocks.key} of shape {by(shape)}; square matrices (k, n, n) are needed or, for BOFT, "
                "(m, k, n, n) with an even n"
            )
        rows, rescale = math.prod(shape[-3:-1]), self._take("rescale")
        if rescale is not None and math.prod(rescale.shape) != rows:
            raise self._error(f"has {rescale.key} of shape {by(rescale.shape)} for {rows} outputs")
        if len(shape) == 4 and rows % (2 ** (shape[0] - 1) * shape[-1]):
            raise self._error(f"has {shape[0]} levels of BOFT in {blocks.key}, too many for {rows} outputs")
        limit = self._take("alpha")
        alpha = None if limit is None else self._number(limit, files)
        kind, form = ("OFT", Rotation) if len(shape) == 3 else ("BOFT", Butterfly)
        return [Change(weight, self._expert, kind, form(blocks, rescale, alpha), self._keys(), alpha=alpha)]

    def _orthogonal_of_peft(self, weight: str, config: AdapterConfig | None) -> list[Change]:
        """Return the change of PEFT's OFT or BOFT, if there is one."""
        found: list[Change] = []
        if (upper := self._need_if_there("oft_R")) is not None:
            width = block_width(upper.shape[-1])
            if width is None or len(upper.shape) != 2:
                raise self._error(f"has {upper.key} of shape {by(upper.shape)}; (k, n (n - 1) / 2) is needed")
            if config is None or config.orthogonal is None:
                raise self._error(
                    "is OFT of PEFT, and how its rotations are made stands in the adapter_config.json, which "
                    "is missing; put it beside the file, or name the folder of both"
                )
            rotation = InputRotation(upper, width, config.orthogonal)
            found.append(Change(weight, self._expert, "OFT (PEFT)", rotation, self._keys()))
        if {"boft_R", "boft_s"} & self._parts.keys():
            blocks, scale = self._need("boft_R"), self._need("boft_s")
            shape = blocks.shape
            if len(shape) != 4 or shape[-1] != shape[-2] or shape[1] % 2 ** (shape[0] - 1) or shape[-1] % 2:
                raise self._error(
                    f"has {blocks.key} of shape {by(shape)}; (m, k, n, n) with an even n and k a multiple of "
                    "2^(m - 1) is needed"
                )
            butterfly = InputButterfly(blocks, scale)
            found.append(Change(weight, self._expert, "BOFT (PEFT)", butterfly, self._keys()))
        return found

    def _low_rank(self) -> tuple[LowRank, int] | None:
        if not {"down", "up"} & self._parts.keys():
            return None
        down, up, mid = self._need("down"), self._need("up"), self._need_if_there("mid")
        if mid is None:
            self._agree(down.shape[0], up.shape[1], down, up)
        else:
            self._agree(up.shape[1], mid.shape[0], up, mid)
            self._agree(down.shape[0], mid.shape[1], down, mid)
        return LowRank(down, up, mid), down.shape[0]

    def _hadamard(self) -> tuple[Hadamard, int | None] | None:
        if not any(part.startswith("hada_") for part in self._parts):
            return None
        first = self._product("hada_w1_a", "hada_w1_b", "hada_t1")
        second = self._product("hada_w2_a", "hada_w2_b", "hada_t2")
        if first.matrix != second.matrix:
            raise self._error(
                f"has LoHa factors of different shapes, {by(first.matrix)} and {by(second.matrix)}"
            )
        return Hadamard(first, second), self._rank(first, second)

    def _kronecker(self) -> tuple[Kronecker, int | None] | None:
        """Return the LoKr form.

        Unfactored factors have no rank: LyCORIS writes an alpha for them but ignores it.
        """
        if not any(part.startswith("lokr_") for part in self._parts):
            return None
        first = self._factor("lokr_w1", "lokr_t1")
        second = self._factor("lokr_w2", "lokr_t2")
        return Kronecker(first, second), self._rank(first, second)

    def _factor(self, name: str, core: str) -> Difference | Product:
        whole = self._need_if_there(name)
        return self._product(f"{name}_a", f"{name}_b", core) if whole is None else Difference(whole)

    def _product(self, a_name: str, b_name: str, core_name: str) -> Product:
        a, b, core = self._need(a_name), self._need(b_name), self._need_if_there(core_name)
        if core is None:
            self._agree(a.shape[1], b.shape[0], a, b)
        else:
            self._agree(a.shape[0], core.shape[0], a, core)
            self._agree(b.shape[0], core.shape[1], b, core)
        return Product(a, b, core)

    def _rank(self, *factors: Difference | Product) -> int | None:
        ranks = sorted({factor.b.shape[0] for factor in factors if isinstance(factor, Product)})
        if len(ranks) > 1:
            raise self._error(f"has factors of ranks {ranks[0]} and {ranks[1]}; its scale is ambiguous")
        return ranks[0] if ranks else None

    def _magnitude(self, matrix: tuple[int, int]) -> Magnitude | None:
        """Return the DoRA magnitude.

        PEFT stores one number per row, LyCORIS (out, 1, ...) or (1, in, ...).
        """
        rows = self._take("row_magnitude")
        tensor = rows or self._take("magnitude")
        if tensor is None:
            return None
        of_columns = rows is None and len(tensor.shape) > 1 and tensor.shape[0] == 1
        magnitude = Magnitude(tensor, of_columns)
        if matrix[1] % magnitude.size if of_columns else matrix[0] != magnitude.size:
            raise self._error(f"has {tensor.key} of shape {by(tensor.shape)} on a {by(matrix)} change")
        return magnitude

    def _alpha_and_scale(
        self, rank: float | None, config: AdapterConfig | None, files: Files
    ) -> tuple[float | None, float]:
        """Return alpha and scale. A tensor of the module has precedence over the header of the file."""
        tensor = self._take("alpha")
        if tensor is None:
            if config is None:
                return None, 1.0
            alpha, power = config.alpha_of(*self._names), 0.5 if config.rank_stabilised else 1.0
            self._require_rank(rank, config)
            if rank is None:  # LoKr of whole factors: PEFT scales it by the rank that was wished
                rank = config.rank_of(*self._names)
        else:
            alpha, power = self._number(tensor, files), 1.0
        return alpha, 1.0 if rank is None else alpha / rank**power

    def _require_rank(self, rank: float | None, config: AdapterConfig) -> None:
        """Raise LoraError if the configuration states another rank: its alpha would be for that one."""
        stated = config.rank_of(*self._names)
        if None not in (rank, stated) and rank != stated:
            raise self._error(
                f"has rank {rank}, but {config.where} states {stated:g}; they do not belong together"
            )

    def _number(self, tensor: StoredTensor, files: Files) -> float:
        if math.prod(tensor.shape) != 1:
            raise self._error(f"has an alpha of shape {by(tensor.shape)} instead of a single number")
        try:
            number = files.number(tensor.file, tensor.key)
        except (ModelError, RuntimeError) as error:
            raise self._error(f"has an alpha that cannot be read: {error}") from error
        if not math.isfinite(number):
            raise self._error(f"has alpha {number}; the file is damaged")
        return number

    def _keys(self) -> tuple[str, ...]:
        """Return the keys used since the last call."""
        keys, self._used = tuple(self._used), []
        return keys

    def _take(self, part: str) -> StoredTensor | None:
        tensor = self._parts.pop(part, None)
        if tensor is not None:
            if tensor.dtype not in _NUMBERS and part != "alpha":
                raise self._error(f"has {tensor.key} as {tensor.dtype} instead of a float type")
            if 0 in tensor.shape:
                raise self._error(f"has an empty {tensor.key}; the file is damaged")
            self._used.append(tensor.key)
        return tensor

    def _need(self, part: str) -> StoredTensor:
        tensor = self._take(part)
        if tensor is None:
            raise self._error(f"has no {_PART_NAMES.get(part, part)}; the file is incomplete")
        if len(tensor.shape) < 2:
            raise self._error(f"has {tensor.key} of shape {by(tensor.shape)} instead of a matrix")
        return tensor

    def _need_if_there(self, part: str) -> StoredTensor | None:
        return self._need(part) if part in self._parts else None

    def _agree(self, one: int, other: int, first: StoredTensor, second: StoredTensor) -> None:
        if one != other:
            raise self._error(f"has rank {one} in {first.key} and {other} in {second.key}")

    def _error(self, text: str) -> LoraError:
        return LoraError(f"{self._file.name}: {self._module} {text}")
