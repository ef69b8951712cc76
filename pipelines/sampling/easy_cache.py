"""EasyCache: whole forwards are skipped while the velocity is expected to change little.

arxiv.org/abs/2507.02860, section 3.2, and EasyCache4Wan2.1/easycache_generate.py of H-EmbodVis/EasyCache,
whose decisions these are. The change of the velocity is expected from that of the latents, at the rate of the
last two forwards that were computed. A skipped forward returns its latents, plus the last velocity less the
latents there.
"""

from __future__ import annotations

from torch import Tensor

from .cached_forward import CachingEngine
from .engine import Condition

__all__ = ["FIRST_SHARE", "EasyCache"]

FIRST_SHARE = 0.2  # of the steps of a run, which are computed; ret_steps: 10 of 50


class EasyCache:
    """The cache of one expert. The first condition of each step decides for the others.

    threshold: the expected relative change of the velocity, added up since it was computed, up to which
               forwards are skipped.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._first: int | None = None  # the condition that decides
        self._offsets: dict[int, Tensor] = {}  # velocity less latents, by condition
        self._latents: Tensor | None = None  # of the last step
        self._computed: tuple[Tensor, Tensor] | None = None  # latents and velocity, when last computed
        self._rate: Tensor | None = None  # mean |change of the velocity| / mean |change of the latents|
        self._change: Tensor | float = 0.0
        self._skips = False
        self.forwards = self.skipped = 0

    def predict(
        self, engine: CachingEngine, latents: Tensor, timestep: float, condition: Condition, *, may_skip: bool
    ) -> Tensor:
        self.forwards += 1
        own = id(condition)
        self._first = self._first or own
        if own == self._first:
            self._skips = self._decide(latents, may_skip=may_skip)
            self._latents = latents
        if self._skips and own in self._offsets:
            self.skipped += 1
            return latents + self._offsets[own]
        velocity = engine.predict(latents, timestep, condition)
        if own == self._first:
            self._learn(latents, velocity)
        self._offsets[own] = velocity - latents
        return velocity

    def _decide(self, latents: Tensor, *, may_skip: bool) -> bool:
        if not may_skip:
            self._change = 0.0
            return False
        if self._rate is None or self._latents is None or self._computed is None:
            return False
        change = (latents - self._latents).abs().mean() / self._computed[1].abs().mean()
        self._change = self._change + self._rate * change
        if self._change < self._threshold:
            return True
        self._change = 0.0
        return False

    def _learn(self, latents: Tensor, velocity: Tensor) -> None:
        if self._computed is not None:
            before, earlier = self._computed
            self._rate = (velocity - earlier).abs().mean() / (latents - before).abs().mean()
        self._computed = latents, velocity
