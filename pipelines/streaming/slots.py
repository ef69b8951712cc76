"""What is on the device: slots with units in them, and the networks whose parameters they become."""

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
from ..weights.recipe import DTypeRule, Ingredient, Recipe
from .transfer import Lane, Mark
from .unit_schedule import Unit

__all__ = ["BlockForward", "LaneMaker", "Made", "Shell", "Slots", "made_from"]

BlockForward = Callable[..., Tensor]
LaneMaker = Callable[[torch.device, DTypeRule, int, int], Lane]


class Visit(Protocol):
    """Called around every block with its number."""

    def __call__(self, block: int) -> AbstractContextManager[None]: ...


@dataclass(frozen=True)
class Made:
    """All that decides what is in a slot: how each tensor is made, and which state its files are in."""

    tensors: Mapping[str, Ingredient]
    stamps: Mapping[Path, tuple[int, int, int]]


def made_from(recipe: Recipe) -> tuple[Made, ...]:
    """Of every unit of a recipe, as it would be made now."""
    stamps: dict[Path, tuple[int, int, int]] = {}

    def stamps_of(tensors: Mapping[str, Ingredient]) -> dict[Path, tuple[int, int, int]]:
        files = {item.source.file for item in tensors.values()}
        files |= {delta.file for item in tensors.values() for delta in item.deltas}
        return {file: stamps.setdefault(file, _stamp(file)) for file in files}

    return tuple(Made(tensors, stamps_of(tensors)) for tensors in recipe.moves)


@dataclass
class _Slot:
    """made: None while there is nothing whole in it."""

    made: Made | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Slots:
    """The slots of one device, and the networks they serve. This is what may stay between runs.

    size_bytes: what they take when they are full.
    """

    def __init__(
        self,
        lane: Lane,
        device: torch.device,
        dtype: torch.dtype,
        count: int,
        slot_bytes: int,
        size_bytes: int,
    ) -> None:
        self.lane, self.last_mark = lane, None
        self._device, self._dtype, self._slot_bytes, self._size_bytes = device, dtype, slot_bytes, size_bytes
        self._slots = [_Slot() for _ in range(count)]
        self._shells: list[Shell] = []
        self.choices = FloatChoices()  # of the run at hand

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def can_serve(self, device: torch.device, dtype: torch.dtype, count: int, slot_bytes: int) -> bool:
        """Whether a run that needs slots like these would find anything in them."""
        alike = (device, dtype, count, slot_bytes) == (
            self._device,
            self._dtype,
            len(self._slots),
            self._slot_bytes,
        )
        return alike and any(slot.made is not None for slot in self._slots)

    def contents(self, made: Mapping[str, Sequence[Made]]) -> list[Unit | None]:
        """Which units of these experts are here, by slot."""
        known = [(Unit(name, number), how) for name, hows in made.items() for number, how in enumerate(hows)]
        return [next((unit for unit, how in known if how == slot.made), None) for slot in self._slots]

    def fill(self, number: int, made: Made, after: Mark, check: Callable[[], None]) -> Mark:
        slot = self._slots[number]
        slot.made, slot.tensors = None, {}
        slot.tensors, mark = self.lane.fill(number, made.tensors, after, check)
        slot.made = made
        return mark

    def tensors(self, number: int) -> Mapping[str, Tensor]:
        return self._slots[number].tensors

    def shell_of(self, recipe: Recipe, block_forward: BlockForward, kind: NetworkKind) -> Shell:
        """The network of a recipe; one serves all recipes of its configuration."""
        shell = next((shell for shell in self._shells if shell.serves(recipe, self.choices)), None)
        if shell is None:
            shell = Shell(recipe, self._device, self.choices, kind)
            self._shells.append(shell)
        shell.block_forward = block_forward
        return shell

    def rest(self) -> None:
        """A run is over: what stays, stays in the slots alone."""
        for shell in self._shells:
            shell.unbind_all()
        self.lane.rest()

    def close(self) -> None:
        """Give everything up, whoever still holds this object."""
        self.rest()
        self._shells.clear()
        for slot in self._slots:
            slot.made, slot.tensors = None, {}
        self.lane.close()


class Shell:
    """A network on meta whose parameters are put in place for the time they are used.

    before_blocks: how many units come before the first block: 1, the head.
    """

    block_forward: BlockForward

    def __init__(
        self, recipe: Recipe, device: torch.device, choices: FloatChoices, kind: NetworkKind
    ) -> None:
        """Raises ModelError when the recipe does not fit the network."""
        network: Any = kind.blank(recipe, choices, device)
        self.network: nn.Module = network
        self.before_blocks = int(recipe.units[0] == "head")
        self._config, self._choices = dict(recipe.config), choices
        modules = dict(network.named_modules())
        self._blank: dict[str, Tensor] = dict(network.named_parameters())
        self.require_fit(recipe)
        self._places = tuple({name: _place(modules, name) for name in tensors} for tensors in recipe.moves)
        self._bound: list[Mapping[str, Tensor] | None] = [None] * len(self._places)
        self._turns = [_Turn(block, number) for number, block in enumerate(network.blocks)]
        network.blocks = nn.ModuleList(self._turns)

    def serves(self, recipe: Recipe, choices: FloatChoices) -> bool:
        return self._config == dict(recipe.config) and self._choices == choices

    def require_fit(self, recipe: Recipe) -> None:
        """Raises ModelError when a recipe of this configuration has other tensors than the network."""
        file = recipe.files[0]
        if unexpected := [name for name in recipe.tensors if name not in self._blank]:
            raise ModelError(f"{file}: the network has no place for {', '.join(unexpected[:3])}")
        if missing := [name for name in self._blank if name not in recipe.tensors]:
            raise ModelError(f"{file}: has no tensor for {', '.join(missing[:3])} ({len(missing)} missing)")
        for name, parameter in self._blank.items():
            if (found := recipe.tensors[name].shape) != (wanted := tuple(parameter.shape)):
                raise ModelError(f"{file}: {name} has shape {found}, the network needs {wanted}")

    @contextmanager
    def visited_by(self, visit: Visit) -> Iterator[None]:
        for turn in self._turns:
            turn.visit, turn.block_forward = visit, self.block_forward
        try:
            yield
        finally:
            for turn in self._turns:
                turn.visit = turn.block_forward = None

    def bind(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Put parameters in place; nothing is copied."""
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


class _Turn(nn.Module):
    """A block whose parameters are there while it is called."""

    visit: Visit | None
    block_forward: BlockForward | None

    def __init__(self, block: nn.Module, number: int) -> None:
        super().__init__()
        self.block, self._number = block, number
        self.visit = self.block_forward = None

    def forward(self, *arguments: Any) -> Tensor:
        if self.visit is None or self.block_forward is None:
            raise ModelError("a block was called outside a forward of its expert")
        with self.visit(self._number):
            return self.block_forward(self.block, *arguments)


def _place(modules: Mapping[str, nn.Module], name: str) -> tuple[nn.Module, str]:
    owner, _, attribute = name.rpartition(".")
    return modules[owner], attribute


def _stamp(file: Path) -> tuple[int, int, int]:
    """What tells that a file was written again: its time, its size and its place on the disk."""
    try:
        stat = file.stat()
    except OSError:  # gone: unlike whatever it was, and reading it says so
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
