"""Runs the experts of a model unit by unit, while a reader brings the units that come next.

The denoise loop asks for an expert and for its prediction, as before. Inside a forward every unit is waited for
just before it is used, and its slot is free for another one right after. The change of experts is nothing
special: the next unit comes from another file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..memory import Memory
from ..sampling.engine import Condition
from ..weights.footprint import making_bytes, move_bytes
from ..weights.recipe import DTypeRule, Recipe
from .expert import expert_dtypes
from .lane import Mark, lane_of, padded_bytes
from .reader import Reader
from .residency import Residency, Room, choose_residency
from .slots import BlockForward, LaneMaker, Made, Shell, Slots, made_from
from .timetable import Load, Timetable, Unit, make_timetable, staying

__all__ = ["Executor", "as_they_are", "unit_sizes"]


def as_they_are(block: nn.Module, *arguments: Tensor) -> Tensor:
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

    Use as a context manager, in inference mode. What is in the slots at the end is left to `memory`, which may
    keep it; a next run finds there what its recipes would make in the same way. Leaving through an exception
    ends the reader and frees everything.
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
        block_forward: BlockForward = as_they_are,
        make_lane: LaneMaker = lane_of,
    ) -> None:
        """working_bytes: what one forward needs beside the weights.
        forwards:      the expert of every forward of the run, in order. A forward that is not among them is
                       made all the same, but nothing is brought ahead for it.
        residency:     decided beforehand; None decides by what is free when the first expert is asked for.
        block_forward: computes one block, (module, hidden states, text, modulation, rotary tables) -> hidden
                       states; the parameters of the module are there when it is called.
        """
        self._recipes = {name: recipes[name] for name in dict.fromkeys(forwards or recipes)}
        self._dtype, self._memory, self._check = dtype, memory, check
        self._working_bytes, self._forwards = working_bytes, tuple(forwards)
        self._residency, self._block_forward, self._make_lane = residency, block_forward, make_lane
        self._made = {name: made_from(recipe) for name, recipe in self._recipes.items()}
        self._slots: Slots | None = None
        self._reader: Reader | None = None
        self._timetable = Timetable((), (), (), ())
        self._dropped: frozenset[int] = frozenset()
        self._stay: frozenset[Unit] = frozenset()
        self._next = 0
        self._open: tuple[int, Unit, Shell] | None = None  # the use that is not over yet

    def use(self, expert: str) -> _Expert:
        if self._slots is None:
            self._slots = self._take_slots()
            self._start([unit for name in self._forwards for unit in self._units(name)])
        return _Expert(self, expert, self._dtype)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, failed: object, *exc: object) -> None:
        if self._reader is not None:
            self._reader.close()
        slots, self._slots, self._reader, self._open = self._slots, None, None, None
        if slots is None:
            if failed is not None:
                self._memory.release()
        elif failed is None:
            slots.rest()
            self._memory.keep(slots)
        else:
            slots.close()
            self._memory.release()

    @contextmanager
    def forward(self, expert: str) -> Iterator[nn.Module]:
        """The network of `expert` for one forward, with its first unit in place."""
        slots = self._slots
        if slots is None:
            raise ModelError("an expert was taken out of memory while it was in use; run again")
        shell = slots.shell_of(self._recipes[expert], self._block_forward)
        count = len(self._made[expert])

        @contextmanager
        def visit(block: int) -> Iterator[None]:
            """Around one block. The first unit is done with when the first block begins, and the last one,
            which brings the tail, when the forward is over."""
            index = block + shell.before_blocks
            if self._open is not None:
                self._leave()
            self._enter(Unit(expert, index), shell)
            yield
            if index < count - 1:
                self._leave()

        self._open = None  # of a forward that was broken off
        with shell.visited_by(visit):
            if shell.before_blocks:
                self._enter(Unit(expert, 0), shell)
            yield shell.network
            if self._open is not None:
                self._leave()

    def _units(self, expert: str) -> list[Unit]:
        return [Unit(expert, index) for index in range(len(self._made[expert]))]

    def _take_slots(self) -> Slots:
        dtype_of, device = expert_dtypes(self._dtype), self._memory.device
        sizes = unit_sizes(self._recipes, dtype_of, device)
        making = max(making_bytes(recipe) for recipe in self._recipes.values())
        room = Room(self._memory.free_bytes() if self._residency is None else None, self._working_bytes + making)
        residency = self._residency or choose_residency("auto", sizes, room, beside=device.type != "cpu")
        self._stay = frozenset(
            Unit(name, index)
            for name, units in self._made.items()
            for index in staying(len(units), residency.slots, residency.ring)
        )
        room_for = [padded_bytes(unit.tensors, dtype_of) for units in self._made.values() for unit in units]
        largest = max(room_for)
        left = self._memory.take(room.working)
        if isinstance(left, Slots):
            if left.can_serve(device, self._dtype, residency.slots, largest):
                return left
            left.close()
            self._memory.release()
        what = f"{' and '.join(f'{name}-noise' for name in self._recipes)} expert"
        taken = self._bytes_taken(residency.slots, largest)
        self._memory.reserve(taken, what, room.working)
        lane = self._make_lane(device, dtype_of, residency.slots, largest)
        return Slots(lane, device, self._dtype, residency.slots, largest, taken)

    def _bytes_taken(self, slots: int, largest: int) -> int:
        """On a CPU a slot is as large as what is in it."""
        if self._memory.device.type != "cpu":
            return slots * largest
        whole = [move_bytes(recipe, expert_dtypes(self._dtype)) for recipe in self._recipes.values()]
        by_size = sorted((size for sizes in whole for size in sizes), reverse=True)
        if slots >= len(by_size):
            return sum(by_size)
        fitting = [sum(sizes) for sizes in whole if len(sizes) <= slots]
        return max(fitting, default=sum(by_size[:slots]))

    def _start(self, uses: Sequence[Unit]) -> None:
        slots = self._slots
        assert slots is not None
        if self._reader is not None:
            self._reader.close()
        contents = slots.contents(self._made)
        self._timetable = make_timetable(uses, len(contents), self._stay, contents)
        self._dropped = frozenset(load.after for load in self._timetable.loads)
        self._next = 0
        slots.lane.open()
        self._reader = Reader(self._timetable, self._bring)

    def _bring(self, load: Load, after: Mark, check: Callable[[], None]) -> Mark:
        """On the reader's thread."""
        slots = self._slots
        assert slots is not None
        return slots.fill(load.slot, self._made[load.unit.expert][load.unit.index], after, check)

    def _enter(self, unit: Unit, shell: Shell) -> None:
        self._check()
        use = self._find(unit)
        reader, slots = self._reader, self._slots
        assert reader is not None
        assert slots is not None
        if use:
            reader.over(use - 1, slots.last_mark)  # those that were skipped
        if (load := self._timetable.served[use]) >= 0:
            slots.lane.wait(reader.ready(load, self._check))
        shell.bind(unit.index, slots.tensors(self._timetable.slots[use]))
        self._next, self._open = use + 1, (use, unit, shell)

    def _find(self, unit: Unit) -> int:
        """The next use of `unit` in the timetable; a new timetable where there is none."""
        uses = self._timetable.uses
        if self._next < len(uses) and uses[self._next] == unit:
            return self._next
        try:
            return uses.index(unit, self._next)
        except ValueError:
            self._start([*self._units(unit.expert)[unit.index :], *uses[self._next :]])
            return 0

    def _leave(self) -> None:
        reader, slots = self._reader, self._slots
        assert self._open is not None
        assert reader is not None
        assert slots is not None
        use, unit, shell = self._open
        self._open = None
        slots.last_mark = slots.lane.done()
        if use in self._dropped:
            shell.unbind(unit.index)
            slots.drop(self._timetable.slots[use])
        reader.over(use, slots.last_mark)


class _Expert:
    """One expert as the denoise loop knows it. Latents and velocity are float32; the network computes in its
    own dtype.
    """

    def __init__(self, executor: Executor, name: str, dtype: torch.dtype) -> None:
        self._executor, self._name, self._dtype = executor, name, dtype

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        with self._executor.forward(self._name) as network:
            velocity: Tensor = network(
                hidden_states=latents.to(self._dtype),
                timestep=torch.tensor([timestep], dtype=torch.float32, device=latents.device),
                encoder_hidden_states=condition.text.to(device=latents.device, dtype=self._dtype),
                return_dict=False,
            )[0]
        return velocity.float()
