"""Walk through one run: wait for each unit just before its use, and free its slot after its last use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from ..networks.network_kind import NetworkKind
from ..weights.recipe import Recipe
from .buffer_pool import BlockForward, BufferPool, MetaNetwork, UnitSource
from .prefetch import Prefetcher
from .transfer import DeviceEvent
from .unit_schedule import Load, Unit, make_unit_schedule

__all__ = ["Cursor"]


class Cursor:
    """Follows a unit schedule in the denoising thread while a prefetcher loads ahead of it.

    If the run skips a scheduled unit, its load is skipped too. If it needs an unscheduled unit, the schedule
    is rebuilt from there; the only cost is that this unit was not prefetched.
    """

    def __init__(
        self,
        pool: BufferPool,
        recipes: Mapping[str, Recipe],
        sources: Mapping[str, Sequence[UnitSource]],
        keep: Collection[Unit],
        forwards: Sequence[str],
        block_forward: BlockForward,
        check: Callable[[], None],
        kind: NetworkKind,
    ) -> None:
        """sources: `unit_sources` of every recipe.
        keep:     units that keep their slot between the forwards of their expert.
        forwards: the expert of every forward, in order.
        check:    called before every unit and while one is waited for; may stop the run.

        Raises ModelError, before anything is read, when a recipe does not fit its network.
        """
        for recipe in recipes.values():
            pool.meta_network(recipe, block_forward, kind).require_fit(recipe)
        self._pool, self._recipes, self._sources, self._keep = pool, recipes, sources, keep
        self._block_forward, self._check, self._kind = block_forward, check, kind
        self._current: tuple[int, Unit, MetaNetwork] | None = None  # the use that is not finished yet
        self._start_schedule([unit for name in forwards for unit in self._units(name)])

    @contextmanager
    def forward(self, expert: str) -> Iterator[nn.Module]:
        """Yield the network of `expert` for one forward."""
        meta = self._pool.meta_network(self._recipes[expert], self._block_forward, self._kind)
        last = len(self._sources[expert]) - 1

        @contextmanager
        def hook(block: int) -> Iterator[None]:
            """Load one block, and release it after its use. The first block releases the head. The last block
            includes the tail, so it is released only when the forward ends."""
            unit = Unit(expert, block + meta.before_blocks)
            self._leave()
            self._enter(unit, meta)
            yield
            if unit.number < last:
                self._leave()

        self._current = None  # left by a forward that raised
        with meta.hooked_by(hook):
            if meta.before_blocks:
                self._enter(Unit(expert, 0), meta)
            yield meta.network
            self._leave()

    def close(self) -> None:
        """Stop the prefetcher."""
        self._prefetcher.close()

    def _units(self, expert: str) -> list[Unit]:
        return [Unit(expert, number) for number in range(len(self._sources[expert]))]

    def _start_schedule(self, uses: Sequence[Unit]) -> None:
        contents = self._pool.contents(self._sources)
        self._schedule = make_unit_schedule(uses, len(contents), self._keep, contents)
        self._last_uses = frozenset(load.after for load in self._schedule.loads)
        self._next = 0
        self._pool.transfer.open()
        self._prefetcher = Prefetcher(self._schedule, self._fill, ahead=self._pool.transfer.two_threads)

    def _fill(self, load: Load, after: DeviceEvent, check: Callable[[], None]) -> DeviceEvent:
        """Fill the slot of `load`; in the thread of the prefetcher, if it has one."""
        return self._pool.fill(load.slot, self._sources[load.unit.expert][load.unit.number], after, check)

    def _enter(self, unit: Unit, meta: MetaNetwork) -> None:
        self._check()
        use = self._next_use(unit)
        self._prefetcher.finished(use - 1, self._pool.last_event)  # skipped uses
        if (load := self._schedule.served[use]) >= 0:
            self._pool.transfer.wait(self._prefetcher.wait_for(load, self._check))
        meta.bind(unit.number, self._pool.tensors(self._schedule.slots[use]))
        self._next, self._current = use + 1, (use, unit, meta)

    def _next_use(self, unit: Unit) -> int:
        """Return the next use of `unit`, from a rebuilt schedule if this one has none."""
        uses = self._schedule.uses
        if self._next < len(uses) and uses[self._next] == unit:
            return self._next
        try:
            return uses.index(unit, self._next)
        except ValueError:
            self._prefetcher.close()
            self._start_schedule([*self._units(unit.expert)[unit.number :], *uses[self._next :]])
            return 0

    def _leave(self) -> None:
        if self._current is None:
            return
        use, unit, meta = self._current
        self._current = None
        self._pool.last_event = self._pool.transfer.done()
        if use in self._last_uses:
            meta.unbind(unit.number)
        self._prefetcher.finished(use, self._pool.last_event)
