"""Runs the experts of a model unit by unit, while a reader brings the units that come next.

The denoise loop asks for an expert and for its prediction, as ever. The change of experts is nothing special:
the next unit comes from another file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..device.memory import Memory
from ..errors import ModelError
from ..kernels.choices import FloatChoices
from ..networks.expert import EXPERT
from ..networks.network_kind import NetworkKind
from ..sampling.engine import Condition
from ..sampling.step_cache import BlockCache
from ..weights.footprint import move_bytes
from ..weights.recipe import DTypeRule, Recipe
from .cursor import Passage
from .residency import Residency, Room, choose_residency, held_bytes
from .slots import BlockForward, LaneMaker, Slots, made_from
from .transfer import lane_of, padded_bytes
from .unit_schedule import Unit, staying

__all__ = ["Executor", "as_it_is", "unit_sizes"]


def as_it_is(block: nn.Module, *arguments: Tensor) -> Tensor:
    """A block's own forward."""
    result: Tensor = block(*arguments)
    return result


def unit_sizes(
    recipes: Mapping[str, Recipe], dtype_of: DTypeRule, device: torch.device
) -> dict[str, tuple[int, ...]]:
    """Bytes of every unit of every expert; on a CPU without what stays the memory-mapped file."""
    on_cpu = device.type == "cpu"
    return {name: move_bytes(recipe, dtype_of, unmapped_only=on_cpu) for name, recipe in recipes.items()}


class Executor:
    """Hands out "high" and "low"; their units come and go as the run needs them.

    Use as a context manager, in inference mode, once or again for a run of the same forwards. What is in the
    slots at the end is left to `memory`, which may keep it; a next run finds there what its recipes would
    make in the same way. Leaving through an exception ends the reader and frees everything.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        dtype: torch.dtype,
        memory: Memory,
        check: Callable[[], None],
        working_bytes: int = 0,
        *,
        forwards: Sequence[str] = (),
        residency: Residency | None = None,
        block_forward: BlockForward = as_it_is,
        make_lane: LaneMaker = lane_of,
        choices: FloatChoices | None = None,
        kind: NetworkKind = EXPERT,
    ) -> None:
        """working_bytes: what one forward needs beside the weights, making a unit included.
        forwards:      the expert of every forward of the run, in order.
        residency:     decided beforehand; None decides by what is free when the first expert is asked for.
        block_forward: computes one block, (module, hidden states, text, modulation, rotary tables) -> hidden
                       states; the parameters of the module are there when it is called.
        choices:       how the networks compute; None for plain torch.
        kind:          of all networks.
        check:         called before every unit and while one is waited for; may stop the run.
        """
        self._recipes = {name: recipes[name] for name in dict.fromkeys(forwards or recipes)}
        self._dtype, self._memory, self._check = dtype, memory, check
        self._working_bytes, self._forwards, self._residency = working_bytes, tuple(forwards), residency
        self._block_forward, self._make_lane = block_forward, make_lane
        self._choices, self._kind = choices or FloatChoices(), kind
        self._slots: Slots | None = None
        self._passage: Passage | None = None

    def use(self, expert: str) -> _Expert:
        if self._passage is None:
            self._passage = self._begin()
        return _Expert(self, expert, self._dtype, self._kind)

    def passage(self) -> Passage:
        """Raises ModelError when the run is over."""
        if self._passage is None:
            raise ModelError("an expert was taken out of memory while it was in use; run again")
        return self._passage

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, failed: object, *exc: object) -> None:
        if self._passage is not None:
            self._passage.close()
        slots, self._slots, self._passage = self._slots, None, None
        if slots is not None and failed is None:
            slots.rest()
            self._memory.keep(slots)
        else:
            if slots is not None:
                slots.close()
            self._memory.release()

    def _begin(self) -> Passage:
        dtype_of, device = self._kind.dtypes(self._dtype), self._memory.device
        residency = self._residency or self._decide(dtype_of, device)
        made = {name: made_from(recipe) for name, recipe in self._recipes.items()}
        slot_bytes = max(padded_bytes(unit.tensors, dtype_of) for units in made.values() for unit in units)
        self._slots = self._take_slots(residency.slots, slot_bytes, dtype_of)
        self._slots.choices = self._choices
        stay = [
            Unit(name, number)
            for name, units in made.items()
            for number in staying(len(units), residency.slots, residency.ring)
        ]
        return Passage(
            self._slots,
            self._recipes,
            made,
            stay,
            self._forwards,
            self._block_forward,
            self._check,
            self._kind,
        )

    def _decide(self, dtype_of: DTypeRule, device: torch.device) -> Residency:
        room = Room(self._memory.free_bytes(), self._working_bytes)
        sizes = unit_sizes(self._recipes, dtype_of, device)
        return choose_residency("auto", sizes, room, beside=device.type != "cpu")

    def _take_slots(self, count: int, slot_bytes: int, dtype_of: DTypeRule) -> Slots:
        device = self._memory.device
        left = self._memory.take(self._working_bytes)
        if isinstance(left, Slots) and left.can_serve(device, self._dtype, count, slot_bytes):
            return left
        if left is not None:
            left.close()
            self._memory.release()
        size_bytes = count * slot_bytes
        if device.type == "cpu":
            sizes = {name: move_bytes(recipe, dtype_of) for name, recipe in self._recipes.items()}
            size_bytes = held_bytes(sizes, count)
        self._memory.reserve(size_bytes, self._kind.title(self._recipes), self._working_bytes)
        lane = self._make_lane(device, dtype_of, count, slot_bytes)
        return Slots(lane, device, self._dtype, count, slot_bytes, size_bytes)


class _Expert:
    """One expert as the denoise loop knows it. Latents and velocity are float32; the network computes in its
    own dtype.
    """

    def __init__(self, executor: Executor, name: str, dtype: torch.dtype, kind: NetworkKind) -> None:
        self._executor, self._name, self._dtype, self._kind = executor, name, dtype, kind

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        with self._executor.passage().forward(self._name) as network:
            return self._kind.velocity(network, latents, timestep, condition, self._dtype, cache)
