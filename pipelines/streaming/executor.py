"""Run the experts of a model unit by unit, while a background thread prefetches the next units.

The denoise loop asks for an expert and for its prediction, as if both experts were resident. Switching
experts is no special case: the next unit is read from another file.
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
from ..parallel.rank_group import RankGroup
from ..sampling.cached_forward import BlockCache
from ..sampling.engine import Condition
from ..weights.footprint import unit_bytes
from ..weights.recipe import DTypeRule, Recipe
from .buffer_pool import BlockForward, BufferPool, TransferMaker, unit_sources
from .cursor import Cursor
from .residency import Residency, held_bytes
from .transfer import padded_bytes, transfer_for
from .unit_schedule import Unit, kept_units

__all__ = ["Executor", "plain_block_forward", "unit_sizes"]


def plain_block_forward(block: nn.Module, *arguments: Tensor) -> Tensor:
    """Compute a block with its own forward."""
    result: Tensor = block(*arguments)
    return result


def unit_sizes(
    recipes: Mapping[str, Recipe], dtype_of: DTypeRule, device: torch.device
) -> dict[str, tuple[int, ...]]:
    """Return the bytes of every unit of every expert; on a CPU, without what stays in the mapped file."""
    on_cpu = device.type == "cpu"
    return {name: unit_bytes(recipe, dtype_of, unmapped_only=on_cpu) for name, recipe in recipes.items()}


class Executor:
    """Provides the experts "high" and "low", and loads and releases their units as the run needs them.

    Use it as a context manager in inference mode; it can be entered again for another run of the same
    forwards. At the end of a run `memory` may keep the buffers; the next run reuses those units that its
    recipes would make in the same way. An exception stops the prefetcher and frees everything.
    """

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        dtype: torch.dtype,
        memory: Memory,
        check: Callable[[], None],
        working_bytes: int = 0,
        *,
        residency: Residency,
        forwards: Sequence[str] = (),
        block_forward: BlockForward = plain_block_forward,
        make_transfer: TransferMaker = transfer_for,
        choices: FloatChoices | None = None,
        kind: NetworkKind = EXPERT,
        ranks: RankGroup | None = None,
    ) -> None:
        """working_bytes: memory for one forward beside the weights, and for loading a unit.
        residency:     how many slots there are, and which units stay in them.
        forwards:      the expert of every forward of the run, in order.
        block_forward: computes one block, (module, hidden states, text, modulation, rotary tables) -> hidden
                       states; the parameters of the module are loaded when it is called.
        choices:       attention and kernels; None for plain torch.
        kind:          of all networks.
        ranks:         share the tokens of every forward; each has its own executor. None computes all here.
        check:         called before every unit and while one is waited for; may raise to stop the run.
        """
        self._recipes = {name: recipes[name] for name in dict.fromkeys(forwards or recipes)}
        self._dtype, self._memory, self._check = dtype, memory, check
        self._working_bytes, self._forwards, self._residency = working_bytes, tuple(forwards), residency
        self._block_forward, self._make_transfer = block_forward, make_transfer
        self._choices, self._kind, self._ranks = choices or FloatChoices(), kind, ranks
        self._pool: BufferPool | None = None
        self._cursor: Cursor | None = None

    def use(self, expert: str) -> _Expert:
        if self._cursor is None:
            self._cursor = self._begin()
        return _Expert(self, expert, self._dtype, self._kind, self._ranks)

    def cursor(self) -> Cursor:
        """Return the cursor of the run. Raises ModelError after the run."""
        if self._cursor is None:
            raise ModelError(
                "an expert was used after its run had ended and its weights were unloaded; run again"
            )
        return self._cursor

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, failed: object, *exc: object) -> None:
        if self._cursor is not None:
            self._cursor.close()
        pool, self._pool, self._cursor = self._pool, None, None
        if pool is not None and failed is None:
            pool.finish()
            self._memory.keep(pool)
        else:
            if pool is not None:
                pool.close()
            self._memory.release()

    def _begin(self) -> Cursor:
        dtype_of, residency = self._kind.dtypes(self._dtype), self._residency
        sources = {name: unit_sources(recipe) for name, recipe in self._recipes.items()}
        slot_bytes = max(padded_bytes(unit.tensors, dtype_of) for units in sources.values() for unit in units)
        self._pool = self._take_pool(residency.slots, slot_bytes, dtype_of)
        self._pool.choices = self._choices
        keep = {
            Unit(name, number)
            for name, units in sources.items()
            for number in kept_units(len(units), residency.slots, residency.ring)
        }
        return Cursor(
            self._pool,
            self._recipes,
            sources,
            keep,
            self._forwards,
            self._block_forward,
            self._check,
            self._kind,
        )

    def _take_pool(self, count: int, slot_bytes: int, dtype_of: DTypeRule) -> BufferPool:
        device = self._memory.device
        left = self._memory.take(self._working_bytes)
        if isinstance(left, BufferPool) and left.can_serve(device, self._dtype, count, slot_bytes):
            return left
        if left is not None:
            left.close()
            self._memory.release()
        size_bytes = count * slot_bytes
        if device.type == "cpu":
            sizes = {name: unit_bytes(recipe, dtype_of) for name, recipe in self._recipes.items()}
            size_bytes = held_bytes(sizes, count)
        self._memory.reserve(size_bytes, self._kind.title(self._recipes), self._working_bytes)
        transfer = self._make_transfer(device, dtype_of, count, slot_bytes)
        return BufferPool(transfer, device, self._dtype, count, slot_bytes, size_bytes)


class _Expert:
    """The engine of one expert. Latents and velocity are float32; the network computes in its own dtype."""

    def __init__(
        self,
        executor: Executor,
        name: str,
        dtype: torch.dtype,
        kind: NetworkKind,
        ranks: RankGroup | None,
    ) -> None:
        self._executor, self._name, self._dtype, self._kind = executor, name, dtype, kind
        self._ranks = ranks

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        with self._executor.cursor().forward(self._name) as network:
            return self._kind.velocity(
                network, latents, timestep, condition, self._dtype, cache, ranks=self._ranks
            )
