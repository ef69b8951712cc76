"""The step cache: a forward that would change little reuses the result of an earlier one.

First block cache (ParaAttention, README, "First Block Cache"; the idea is TeaCache's,
arxiv.org/abs/2411.19108): the output of the first block predicts how much the others change. If it is nearly
the same as in the last computed forward, the blocks between the first and the last are skipped, and their
earlier change is added again. Unlike there, the last block is always computed, because the output layers are
streamed with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .engine import Condition, Engine, Experts

__all__ = ["CACHED_SHARE", "REGULAR", "BlockCache", "FirstBlockCache", "StepCache"]

REGULAR = 0.06
"""The threshold of `acceleration: regular`: what ParaAttention's documentation names for HunyuanVideo."""

CACHED_SHARE = 0.8
"""Memory of a cache, as a share of the activations of a forward: two hidden states for each of two
conditions, where a forward takes at least five (`networks.expert.forward_bytes`)."""


class BlockCache(Protocol):
    """The interface between a forward and a cache. Hidden states are (B, tokens, width)."""

    def after_first(self, before: Tensor, after: Tensor) -> Tensor | None:
        """Return the hidden states that enter the last block. None if the blocks between must be computed.

        before, after: hidden states before and after the first block.
        """

    def before_last(self, hidden: Tensor) -> None:
        """Store the hidden states that enter the last block, after all earlier blocks were computed."""


class CachingEngine(Protocol):
    """An engine that can skip blocks."""

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        """Predict as `Engine.predict`. `cache` is called after the first block and before the last."""


class FirstBlockCache:
    """The cache of one expert for one condition.

    threshold: mean |change of the first block's residual| / mean |residual|, up to which blocks are skipped.
               0 skips only if the residual is equal.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._first: Tensor | None = None  # residual of the first block in the last forward that was computed
        self._rest: Tensor | None = None  # residual of the skippable blocks there
        self._after_first: Tensor | None = None
        self.forwards = self.skipped = 0

    def after_first(self, before: Tensor, after: Tensor) -> Tensor | None:
        self.forwards += 1
        added = after - before
        if self._first is not None and self._rest is not None and self._is_near(added, self._first):
            self.skipped += 1
            return after + self._rest
        self._first, self._after_first = added, after
        return None

    def before_last(self, hidden: Tensor) -> None:
        if self._after_first is not None:
            self._rest, self._after_first = hidden - self._after_first, None

    def _is_near(self, added: Tensor, before: Tensor) -> bool:
        change = (added - before).abs().mean(dtype=torch.float32) / before.abs().mean(dtype=torch.float32)
        return bool(change <= self._threshold)


@dataclass
class StepCache:
    """The caches of all experts and conditions of one run, with counts of skipped forwards.

    Use it for one run.
    """

    threshold: float = REGULAR
    _counts: dict[str, list[FirstBlockCache]] = field(default_factory=dict)

    def around(self, experts: Any) -> Experts:
        """Return the experts with a cache. experts: their engines must be a CachingEngine."""
        return _CachedExperts(experts, self)

    def new(self, expert: str) -> FirstBlockCache:
        cache = FirstBlockCache(self.threshold)
        self._counts.setdefault(expert, []).append(cache)
        return cache

    def as_dict(self) -> dict[str, Any]:
        """Return the forwards of each expert, and how many skipped blocks, for the receipt."""
        return {
            "cache": "first block",
            "threshold": self.threshold,
            "forwards": {name: sum(each.forwards for each in made) for name, made in self._counts.items()},
            "skipped": {name: sum(each.skipped for each in made) for name, made in self._counts.items()},
        }


class _CachedExperts:
    """Experts with caches. The caches of an expert are freed when the run switches to the other one."""

    def __init__(self, experts: Any, cache: StepCache) -> None:
        self._experts, self._cache = experts, cache
        self._name: str | None = None
        self._engine: _CachedEngine | None = None

    def use(self, expert: str) -> Engine:
        if self._engine is None or expert != self._name:
            self._engine, self._name = None, expert  # before the next expert needs the memory
            self._engine = _CachedEngine(self._experts.use(expert), expert, self._cache)
        return self._engine


class _CachedEngine:
    def __init__(self, engine: CachingEngine, expert: str, cache: StepCache) -> None:
        self._engine, self._expert, self._cache = engine, expert, cache
        self._of: dict[int, FirstBlockCache] = {}  # by condition: the same two objects, step after step

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        if id(condition) not in self._of:
            self._of[id(condition)] = self._cache.new(self._expert)
        return self._engine.predict(latents, timestep, condition, self._of[id(condition)])
