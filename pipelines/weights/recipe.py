"""Describes how to make each tensor of a network, without making it.

A recipe states where each tensor is stored, in which format, and which LoRA deltas are added. It is immutable
and small; attaching a LoRA makes a new recipe. Only `materialise` reads data: unit by unit, into a network on
the meta device. So nothing has to be unpatched, and there is never a second full copy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from ..device.late_torch import torch
from ..device.ram import trim_heap
from ..errors import ModelError
from ..kernels.stored_products import StoredLayer
from .stored_tensors import Files, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DTypeRule", "Delta", "Recipe", "TensorRecipe", "keeping_fp32", "materialise"]

DTypeRule = Callable[[str], "torch.dtype"]


class Delta(Protocol):
    """The change of one tensor by a LoRA of any dialect. It is frozen, and its repr shows all of it."""

    @property
    def file(self) -> Path: ...

    @property
    def strength(self) -> float: ...

    @property
    def sees_base(self) -> bool:
        """Whether the change depends on the stored tensor."""

    @property
    def adds_in_place(self) -> bool:
        """Whether `add_to` allocates no other tensor of that size."""

    @property
    def rank(self) -> int | None:
        """The rank of a change that is the product of two factors; None for every other."""

    def factors(self, files: Files) -> tuple[Tensor, Tensor]:
        """Return the factors of a change that has a rank: up (out, r) at its strength, and down (r, in).

        Both are float32 on `files.device`.
        """

    def add_to(self, total: Tensor, files: Files, base: Tensor) -> None:
        """Add the change, at its strength, to `total`.

        Both are float32 on `files.device`, of the tensor's shape.

        base: the tensor as stored; may be `total` itself if no delta of the tensor `sees_base`.
        """


@dataclass(frozen=True)
class TensorRecipe:
    """One tensor of the network: where it is stored, and what is added to it."""

    source: Source
    deltas: tuple[Delta, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def compute(self, files: Files) -> Tensor:
        """Return the tensor with its deltas added: in float32 if it has deltas, else as stored.

        Every delta is computed from the stored tensor, and the deltas are summed in a fixed order. So neither
        the order of attaching nor another LoRA changes the effect of a LoRA.
        """
        base = self.source.read(files)
        if not self.deltas:
            return base
        stored, base = base, base.to(device=files.device, dtype=torch.float32)
        keeps = base is stored or any(delta.sees_base for delta in self.deltas)
        total = base.clone() if keeps else base
        for delta in self.deltas:
            delta.add_to(total, files, base)
        return total


@dataclass(frozen=True)
class Recipe:
    """All tensors of one network.

    config: the configuration of its class (`config.json`).
    notes:  what its user should know of the files, such as tensors that are left out.
    stored: the layers that compute on the numbers of their file; none unless that was asked for.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, TensorRecipe] = field(repr=False)
    notes: tuple[str, ...] = ()
    stored: Mapping[str, StoredLayer] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, config: Mapping[str, Any], sources: Mapping[str, Source], notes: tuple[str, ...] = ()
    ) -> Recipe:
        tensors = {name: TensorRecipe(source) for name, source in sources.items()}
        return cls(MappingProxyType(dict(config)), MappingProxyType(tensors), notes)

    @property
    def sources(self) -> dict[str, Source]:
        return {name: tensor.source for name, tensor in self.tensors.items()}

    @property
    def units(self) -> tuple[str, ...]:
        """The units of the network: head, blocks.0, blocks.1, ..., tail."""
        found = {_unit_of(name) for name in self.tensors}
        blocks = sorted((unit for unit in found if unit.startswith("blocks.")), key=lambda u: int(u[7:]))
        return tuple(unit for unit in ("head", *blocks, "tail") if unit in found)

    @property
    def streamed_units(self) -> tuple[Mapping[str, TensorRecipe], ...]:
        """The tensors that are loaded at once: those of one unit.

        The tail, which is small, is loaded with the last block, after which it is used.
        """
        found: dict[str, dict[str, TensorRecipe]] = {unit: {} for unit in self.units}
        for name, tensor in self.tensors.items():
            found[_unit_of(name)][name] = tensor
        tail = found.pop("tail", {})
        *before, last = found.values() or [{}]
        return (*before, {**last, **tail})

    @property
    def elements(self) -> int:
        """The number of elements in all tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files, without LoRAs."""
        return tuple(sorted({tensor.source.file for tensor in self.tensors.values()}))

    def with_deltas(self, deltas: Mapping[str, Iterable[Delta]]) -> Recipe:
        """Return a new recipe with more deltas on each named tensor. A delta of strength 0 is left out."""
        tensors = dict(self.tensors)
        for name, added in deltas.items():
            acting = [delta for delta in added if delta.strength != 0]
            if acting:
                every = sorted((*tensors[name].deltas, *acting), key=lambda d: (d.file.name, repr(d)))
                tensors[name] = replace(tensors[name], deltas=tuple(every))
        return replace(self, tensors=MappingProxyType(tensors))

    def into(self, unit: str, network: nn.Module, device: torch.device, dtype_of: DTypeRule) -> None:
        """Fill the parameters of one unit of `network`, which may be on the meta device.

        dtype_of: returns the dtype of each parameter. A parameter stays the memory-mapped file if file, dtype
                  and device match and no delta is added.

        Raises ModelError if a file cannot be read or a tensor does not fit the network.
        """
        state: dict[str, Tensor] = {}
        with Files(device) as files:
            for name, tensor in self.tensors.items():
                if _unit_of(name) == unit:
                    state[name] = tensor.compute(files).to(device=device, dtype=dtype_of(name))
        try:
            unexpected = network.load_state_dict(state, strict=False, assign=True).unexpected_keys
        except RuntimeError as error:
            raise ModelError(f"{self.files[0]}: {error}") from error
        if unexpected:
            raise ModelError(
                f"{self.files[0]}: has tensors that the network does not have: {', '.join(unexpected[:3])}"
            )


def materialise(
    recipe: Recipe,
    network: nn.Module,
    device: torch.device,
    dtype_of: DTypeRule,
    check: Callable[[], None],
    units: Collection[str] | None = None,
) -> None:
    """Fill all of `network` from `recipe`, unit by unit.

    `check` is called before each unit; it may raise to stop.

    units: the only units to fill, if the others are already filled from an equal recipe. If this is stopped,
           the network is a mix of two recipes and must not be used.

    Raises ModelError if a parameter has no tensor in the recipe.
    """
    for unit in recipe.units if units is None else units:
        check()
        recipe.into(unit, network, device, dtype_of)
        if device.type == "cpu":
            trim_heap()  # temporary tensors would accumulate, unit by unit
    missing = [name for name, _ in network.named_parameters() if name not in recipe.tensors]
    if missing:
        raise ModelError(
            f"{recipe.files[0]}: has no tensor for {', '.join(missing[:3])} ({len(missing)} missing)"
        )
    network.to(device).requires_grad_(False).eval()  # only buffers remain to be moved, such as rotary tables


def keeping_fp32(modules: Collection[str], dtype: torch.dtype) -> DTypeRule:
    """Return `dtype` for every parameter, but float32 for those of the named modules."""
    return lambda name: torch.float32 if any(part in modules for part in name.split(".")) else dtype


_BLOCK = re.compile(r"blocks\.\d+(?=\.)")
_TAIL = ("norm_out.", "proj_out.", "scale_shift_table")


def _unit_of(name: str) -> str:
    """Return the unit of a parameter. Networks without numbered blocks at the top level are all head."""
    block = _BLOCK.match(name)
    if block:
        return block.group()
    return "tail" if name.startswith(_TAIL) else "head"
