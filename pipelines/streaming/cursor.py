"""One run through the slots: every unit is waited for just before its use, and its slot is free after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from ..networks.network_kind import NetworkKind
from ..weights.recipe import Recipe
from .prefetch import Reader
from .slots import BlockForward, Made, Shell, Slots
from .transfer import Mark
from .unit_schedule import Load, Unit, make_timetable

__all__ = ["Passage"]


class Passage:
    """Follows a timetable while a reader works ahead of it.

    Uses that do not come are skipped, and one that was not foreseen makes a new timetable: then nothing was
    brought ahead for it, and that is all.
    """

    def __init__(
        self,
        slots: Slots,
        recipes: Mapping[str, Recipe],
        made: Mapping[str, Sequence[Made]],
        stay: Collection[Unit],
        forwards: Sequence[str],
        block_forward: BlockForward,
        check: Callable[[], None],
        kind: NetworkKind,
    ) -> None:
        """made: of every recipe, as `made_from` has it. forwards: the expert of each.

        Raises ModelError, before anything is read, when a recipe does not fit its network.
        """
        for recipe in recipes.values():
            slots.shell_of(recipe, block_forward, kind).require_fit(recipe)
        self._slots, self._recipes, self._made, self._stay = slots, recipes, made, stay
        self._block_forward, self._check, self._kind = block_forward, check, kind
        self._open: tuple[int, Unit, Shell] | None = None  # the use that is not over yet
        self._follow([unit for name in forwards for unit in self._units(name)])

    @contextmanager
    def forward(self, expert: str) -> Iterator[nn.Module]:
        """The network of `expert` for one forward."""
        shell = self._slots.shell_of(self._recipes[expert], self._block_forward, self._kind)
        last = len(self._made[expert]) - 1

        @contextmanager
        def visit(block: int) -> Iterator[None]:
            """Around one block. The head is done with when the first block begins; the last block brings the
            tail, which is needed until the forward is over."""
            unit = Unit(expert, block + shell.before_blocks)
            self._leave()
            self._enter(unit, shell)
            yield
            if unit.number < last:
                self._leave()

        self._open = None  # of a forward that was broken off
        with shell.visited_by(visit):
            if shell.before_blocks:
                self._enter(Unit(expert, 0), shell)
            yield shell.network
            self._leave()

    def close(self) -> None:
        """End the reader."""
        self._reader.close()

    def _units(self, expert: str) -> list[Unit]:
        return [Unit(expert, number) for number in range(len(self._made[expert]))]

    def _follow(self, uses: Sequence[Unit]) -> None:
        contents = self._slots.contents(self._made)
        self._timetable = make_timetable(uses, len(contents), self._stay, contents)
        self._given_up = frozenset(load.after for load in self._timetable.loads)
        self._next = 0
        self._slots.lane.open()
        self._reader = Reader(self._timetable, self._bring, ahead=self._slots.lane.two_threads)

    def _bring(self, load: Load, after: Mark, check: Callable[[], None]) -> Mark:
        """On the reader's thread, where it has one."""
        return self._slots.fill(load.slot, self._made[load.unit.expert][load.unit.number], after, check)

    def _enter(self, unit: Unit, shell: Shell) -> None:
        self._check()
        use = self._find(unit)
        self._reader.over(use - 1, self._slots.last_mark)  # those that were skipped
        if (load := self._timetable.served[use]) >= 0:
            self._slots.lane.wait(self._reader.ready(load, self._check))
        shell.bind(unit.number, self._slots.tensors(self._timetable.slots[use]))
        self._next, self._open = use + 1, (use, unit, shell)

    def _find(self, unit: Unit) -> int:
        """The next use of `unit` in the timetable; in a new one where there is none."""
        uses = self._timetable.uses
        if self._next < len(uses) and uses[self._next] == unit:
            return self._next
        try:
            return uses.index(unit, self._next)
        except ValueError:
            self._reader.close()
            self._follow([*self._units(unit.expert)[unit.number :], *uses[self._next :]])
            return 0

    def _leave(self) -> None:
        if self._open is None:
            return
        use, unit, shell = self._open
        self._open = None
        self._slots.last_mark = self._slots.lane.done()
        if use in self._given_up:
            shell.unbind(unit.number)
        self._reader.over(use, self._slots.last_mark)
