"""The step cache: a forward that would change little gives the change of an earlier one instead.

First block cache (ParaAttention, README, "First Block Cache"; the idea is TeaCache's,
arxiv.org/abs/2411.19108): what the first block adds tells how much the others would. Where it is nearly what
it was at the last forward that was computed, the blocks between are skipped, and what they added then is
added again. Unlike there, the last block is always computed: its output layers come with it where weights
are streamed.
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
"""What a cache keeps, as a share of what a forward takes beside the weights: two hidden states for each of
two conditions, where a forward takes five at least (`models.expert.forward_bytes`)."""


class BlockCache(Protocol):
    """What an engine tells and asks in the middle of a forward. Hidden states are (B, tokens, width)."""

    def after_first(self, before: Tensor, after: Tensor) -> Tensor | None:
        """The hidden states that enter the last block, or None when the blocks between must be computed.

        before, after: the first block.
        """

    def before_last(self, hidden: Tensor) -> None:
        """What enters the last block, when all before were computed."""


class CachingEngine(Protocol):
    """An engine that can skip blocks."""

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        """As `Engine.predict`; `cache` is asked after the first block, and told before the last."""


class FirstBlockCache:
    """One expert on one condition.

    threshold: mean |change of what the first block adds| / mean |what it added|, up to which blocks are
               skipped. 0 skips nothing but what is equal.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._first: Tensor | None = None  # what the first block added at the last forward that was computed
        self._rest: Tensor | None = None  # what the blocks between added there
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
    """Experts with a cache for each condition. What was skipped is counted per expert; use it for one run."""

    threshold: float = REGULAR
    _counts: dict[str, list[FirstBlockCache]] = field(default_factory=dict)

    def around(self, experts: Any) -> Experts:
        """The same experts, skipping. experts: hand out engines that are a CachingEngine."""
        return _CachedExperts(experts, self)

    def new(self, expert: str) -> FirstBlockCache:
        cache = FirstBlockCache(self.threshold)
        self._counts.setdefault(expert, []).append(cache)
        return cache

    def as_dict(self) -> dict[str, Any]:
        """For the receipt: forwards of each expert, and how many of them skipped the blocks between."""
        return {
            "cache": "first block",
            "threshold": self.threshold,
            "forwards": {name: sum(each.forwards for each in made) for name, made in self._counts.items()},
            "skipped": {name: sum(each.skipped for each in made) for name, made in self._counts.items()},
        }


class _CachedExperts:
    """What an expert remembers is forgotten when another one takes over."""

    def __init__(self, experts: Any, cache: StepCache) -> None:
        self._experts, self._cache = experts, cache
        self._name: str | None = None
        self._engine: _CachedEngine | None = None

    def use(self, expert: str) -> Engine:
        if self._engine is None or expert != self._name:
            self._engine, self._name = None, expert  # before the next expert needs the room
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
