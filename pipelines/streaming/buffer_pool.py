"""Hold units in buffers on the device, and the networks on meta whose parameters they become."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..kernels.choices import FloatChoices
from ..networks.network_kind import NetworkKind
from ..networks.stored_linear import replace_linears
from ..weights.recipe import DTypeRule, Recipe, TensorRecipe
from .transfer import DeviceEvent, Transfer
from .unit_schedule import Unit

__all__ = ["BlockForward", "BufferPool", "MetaNetwork", "TransferMaker", "UnitSource", "unit_sources"]

BlockForward = Callable[..., Tensor]
TransferMaker = Callable[[torch.device, DTypeRule, int, int], Transfer]


class BlockHook(Protocol):
    """Returns a context in which one block is computed."""

    def __call__(self, block: int) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class UnitSource:
    """Determines the contents of a unit: how each tensor is made, and stamps of the files it is made from."""

    tensors: Mapping[str, TensorRecipe]
    stamps: Mapping[Path, tuple[int, int, int]]


def unit_sources(recipe: Recipe) -> tuple[UnitSource, ...]:
    """Return the sources of every unit of a recipe, with the present stamps of its files."""
    stamps: dict[Path, tuple[int, int, int]] = {}

    def stamps_of(tensors: Mapping[str, TensorRecipe]) -> dict[Path, tuple[int, int, int]]:
        files = {item.source.file for item in tensors.values()}
        files |= {delta.file for item in tensors.values() for delta in item.deltas}
        return {file: stamps.setdefault(file, _stamp(file)) for file in files}

    return tuple(UnitSource(tensors, stamps_of(tensors)) for tensors in recipe.streamed_units)


@dataclass
class _Buffer:
    """source: of the unit it holds; None while it is empty or being filled."""

    source: UnitSource | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)


class BufferPool:
    """The buffers (slots) of one device, one unit each, and their networks. May be kept between runs.

    size_bytes: size of all buffers when they are full.
    """

    def __init__(
        self,
        transfer: Transfer,
        device: torch.device,
        dtype: torch.dtype,
        count: int,
        slot_bytes: int,
        size_bytes: int,
    ) -> None:
        self.transfer, self.last_event = transfer, None
        self._device, self._dtype, self._slot_bytes, self._size_bytes = device, dtype, slot_bytes, size_bytes
        self._buffers = [_Buffer() for _ in range(count)]
        self._networks: list[MetaNetwork] = []
        self.choices = FloatChoices()  # of the present run

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def can_serve(self, device: torch.device, dtype: torch.dtype, count: int, slot_bytes: int) -> bool:
        """Say whether the buffers match, and at least one holds a unit."""
        alike = (device, dtype, count, slot_bytes) == (
            self._device,
            self._dtype,
            len(self._buffers),
            self._slot_bytes,
        )
        return alike and any(buffer.source is not None for buffer in self._buffers)

    def contents(self, sources: Mapping[str, Sequence[UnitSource]]) -> list[Unit | None]:
        """Return the unit of these experts that each slot holds."""
        known = [
            (Unit(name, number), source)
            for name, units in sources.items()
            for number, source in enumerate(units)
        ]
        return [
            next((unit for unit, source in known if source == buffer.source), None)
            for buffer in self._buffers
        ]

    def fill(
        self, number: int, source: UnitSource, after: DeviceEvent, check: Callable[[], None]
    ) -> DeviceEvent:
        buffer = self._buffers[number]
        buffer.source, buffer.tensors = None, {}
        buffer.tensors, event = self.transfer.fill(number, source.tensors, after, check)
        buffer.source = source
        return event

    def tensors(self, number: int) -> Mapping[str, Tensor]:
        return self._buffers[number].tensors

    def meta_network(self, recipe: Recipe, block_forward: BlockForward, kind: NetworkKind) -> MetaNetwork:
        """Return the network for a recipe. Recipes of one configuration, with the same layers, share one."""
        meta = next((meta for meta in self._networks if meta.serves(recipe, self.choices)), None)
        if meta is None:
            meta = MetaNetwork(recipe, self._device, self.choices, kind)
            self._networks.append(meta)
        meta.block_forward = block_forward
        return meta

    def finish(self) -> None:
        """End a run: units stay in their buffers, and the networks no longer refer to them."""
        for meta in self._networks:
            meta.unbind_all()
        self.transfer.finish()

    def close(self) -> None:
        """Free all memory, even if a reference to this object remains."""
        self.finish()
        self._networks.clear()
        for buffer in self._buffers:
            buffer.source, buffer.tensors = None, {}
        self.transfer.close()


class MetaNetwork:
    """A network on the meta device whose parameters are bound while they are used.

    before_blocks: number of units before the first block: 1, the head, or 0.
    """

    block_forward: BlockForward

    def __init__(
        self, recipe: Recipe, device: torch.device, choices: FloatChoices, kind: NetworkKind
    ) -> None:
        """Raises ModelError when the recipe does not fit the network."""
        network: Any = kind.blank(recipe, choices, device)
        replace_linears(network, recipe.stored)
        self.network: nn.Module = network
        self.before_blocks = int(recipe.units[0] == "head")
        self._config, self._choices, self._stored = dict(recipe.config), choices, dict(recipe.stored)
        modules = dict(network.named_modules())
        self._blank: dict[str, Tensor] = dict(network.named_parameters())
        self.require_fit(recipe)
        self._places = tuple(
            {name: _place(modules, name) for name in tensors} for tensors in recipe.streamed_units
        )
        self._bound: list[Mapping[str, Tensor] | None] = [None] * len(self._places)
        self._hooked = [_HookedBlock(block, number) for number, block in enumerate(network.blocks)]
        network.blocks = nn.ModuleList(self._hooked)

    def serves(self, recipe: Recipe, choices: FloatChoices) -> bool:
        alike = self._config == dict(recipe.config) and self._stored == dict(recipe.stored)
        return alike and self._choices == choices

    def require_fit(self, recipe: Recipe) -> None:
        """Raises ModelError when a recipe of this configuration has other tensors than the network."""
        file = recipe.files[0]
        if unexpected := [name for name in recipe.tensors if name not in self._blank]:
            raise ModelError(
                f"{file}: has tensors that the network does not have: {', '.join(unexpected[:3])}"
            )
        if missing := [name for name in self._blank if name not in recipe.tensors]:
            raise ModelError(f"{file}: has no tensor for {', '.join(missing[:3])} ({len(missing)} missing)")
        for name, parameter in self._blank.items():
            if (found := recipe.tensors[name].shape) != (wanted := tuple(parameter.shape)):
                raise ModelError(f"{file}: {name} has shape {found}, but the network needs {wanted}")

    @contextmanager
    def hooked_by(self, hook: BlockHook) -> Iterator[None]:
        for block in self._hooked:
            block.hook, block.block_forward = hook, self.block_forward
        try:
            yield
        finally:
            for block in self._hooked:
                block.hook = block.block_forward = None

    def bind(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Set the parameters of unit `index`, without a copy."""
        if self._bound[index] is not tensors:
            for name, (module, attribute) in self._places[index].items():
                module._parameters[attribute] = tensors[name]  # type: ignore[assignment]
            self._bound[index] = tensors

    def unbind(self, index: int) -> None:
        if self._bound[index] is not None:
            self.bind(index, self._blank)
            self._bound[index] = None

    def unbind_all(self) -> None:
        for index in range(len(self._bound)):
            self.unbind(index)


class _HookedBlock(nn.Module):
    """A block that enters its hook, which binds its parameters, around each call."""

    hook: BlockHook | None
    block_forward: BlockForward | None

    def __init__(self, block: nn.Module, number: int) -> None:
        super().__init__()
        self.block, self._number = block, number
        self.hook = self.block_forward = None

    def forward(self, *arguments: Any) -> Tensor:
        if self.hook is None or self.block_forward is None:
            raise ModelError("a block was called outside a forward of its expert")
        with self.hook(self._number):
            return self.block_forward(self.block, *arguments)


def _place(modules: Mapping[str, nn.Module], name: str) -> tuple[nn.Module, str]:
    owner, _, attribute = name.rpartition(".")
    return modules[owner], attribute


def _stamp(file: Path) -> tuple[int, int, int]:
    """Return modification time, size and inode, which change when a file is rewritten."""
    try:
        stat = file.stat()
    except OSError:  # the file is gone; reading it will raise
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
