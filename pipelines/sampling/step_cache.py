"""The step cache: a forward that would change little reuses the result of an earlier one.

Each expert gets a cache of its own when the run switches to it, and the cache of the other one is freed. How
each cache decides stands in `first_block_cache`, `mag_cache` and `easy_cache`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from ..plan.cache_choice import CacheChoice
from ..plan.magnitudes import Magnitudes
from .cached_forward import CachingEngine, ExpertCache
from .easy_cache import FIRST_SHARE, EasyCache
from .engine import Condition, Engine, Experts
from .first_block_cache import FirstBlockCaches
from .mag_cache import MagCache
from .schedule import Schedule

__all__ = ["CACHED_SHARE", "StepCache"]

CACHED_SHARE = 0.8
"""Memory of a cache, as a share of the activations of a forward: two hidden states for each of two
conditions, where a forward takes at least five (`networks.expert.forward_bytes`)."""


class _CachingExperts(Protocol):
    def use(self, expert: str) -> CachingEngine: ...


@dataclass
class StepCache:
    """The caches of all experts of one run, with counts of skipped forwards. Use it for one run.

    magnitudes: of the model, for MagCache.
    """

    choice: CacheChoice
    schedule: Schedule
    magnitudes: Magnitudes | None = None
    _made: dict[str, list[ExpertCache]] = field(default_factory=dict)

    def around(self, experts: Any) -> Experts:
        """Return the experts with a cache. experts: their engines must be a CachingEngine."""
        return _CachedExperts(experts, self)

    def new(self, network: str) -> ExpertCache:
        """Return an empty cache for a network, and count what it skips."""
        cache = self._new(network)
        self._made.setdefault(network, []).append(cache)
        return cache

    def _new(self, network: str) -> ExpertCache:
        threshold = self.choice.threshold
        if self.choice.name == "first-block":
            return FirstBlockCaches(threshold)
        if self.choice.name == "easycache":
            return EasyCache(threshold)
        measured = self._required_magnitudes()
        return MagCache(threshold, measured.curves[_expert(network)], measured.most_skips)

    @cached_property
    def always_computed(self) -> frozenset[float]:
        """The timesteps of the steps that skip nothing."""
        timesteps, networks = self.schedule.timesteps, self.schedule.networks
        if self.choice.name == "easycache":
            first = int(FIRST_SHARE * len(timesteps))
            return frozenset([*timesteps[:first], *timesteps[-1:]])
        if self.choice.name == "first-block":
            return frozenset()
        shares, counts = self._required_magnitudes().computed, Counter(networks)
        return frozenset(
            timestep
            for step, (timestep, network) in enumerate(zip(timesteps, networks, strict=True))
            if networks[:step].count(network) < int(shares[_expert(network)] * counts[network])
        )

    def _required_magnitudes(self) -> Magnitudes:
        assert self.magnitudes is not None  # noqa: S101 - the check has refused other models
        return self.magnitudes

    def as_dict(self) -> dict[str, Any]:
        """Return the forwards of each expert, and how many skipped blocks, for the receipt."""
        return {
            "cache": self.choice.name,
            "threshold": self.choice.threshold,
            "forwards": {name: sum(each.forwards for each in made) for name, made in self._made.items()},
            "skipped": {name: sum(each.skipped for each in made) for name, made in self._made.items()},
        }


def _expert(network: str) -> str:
    """Return the expert of a network, which may have the LoRAs of a phase: "high+1"."""
    return network.split("+")[0]


class _CachedExperts:
    """Experts with caches. The caches of an expert are freed when the run switches to the other one."""

    def __init__(self, experts: _CachingExperts, cache: StepCache) -> None:
        self._experts, self._cache = experts, cache
        self._name: str | None = None
        self._engine: _CachedEngine | None = None

    def use(self, expert: str) -> Engine:
        if self._engine is None or expert != self._name:
            self._engine, self._name = None, expert  # before the next expert needs the memory
            always, cache = self._cache.always_computed, self._cache.new(expert)
            self._engine = _CachedEngine(self._experts.use(expert), cache, always)
        return self._engine


@dataclass
class _CachedEngine:
    engine: CachingEngine
    cache: ExpertCache
    always: frozenset[float]

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        may_skip = timestep not in self.always
        return self.cache.predict(self.engine, latents, timestep, condition, may_skip=may_skip)
