"""First block cache: the first block of each forward shows how much the others would change.

ParaAttention, README, "First Block Cache"; the idea is TeaCache's (arxiv.org/abs/2411.19108). If the residual
of the first block is nearly the same as in the last computed forward, the blocks between the first and
the last are skipped, and their earlier change is added again. Unlike there, the last block is always
computed, because the output layers are streamed with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cached_forward import CachingEngine
from .engine import Condition
from .kept_residual import KeptResidual

__all__ = ["FirstBlockCache", "FirstBlockCaches"]


class FirstBlockCache(KeptResidual):
    """The cache of one expert for one condition.

    threshold: mean |change of the first block's residual| / mean |residual|, up to which blocks are skipped.
               0 skips only if the residual is equal.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self._threshold = threshold
        self._first: Tensor | None = None  # residual of the first block in the last forward that was computed
        self.forwards = self.skipped = 0

    def after_first(self, before: Tensor, after: Tensor) -> Tensor | None:
        self.forwards += 1
        added = after - before
        if self._first is not None and self.rest is not None and self._is_near(added, self._first):
            self.skipped += 1
            return after + self.rest
        self._first = added
        self.compute(after)
        return None

    def _is_near(self, added: Tensor, before: Tensor) -> bool:
        change = (added - before).abs().mean(dtype=torch.float32) / before.abs().mean(dtype=torch.float32)
        return bool(change <= self._threshold)


class FirstBlockCaches:
    """The first block caches of one expert: one for each condition."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._of: dict[int, FirstBlockCache] = {}

    @property
    def forwards(self) -> int:
        return sum(each.forwards for each in self._of.values())

    @property
    def skipped(self) -> int:
        return sum(each.skipped for each in self._of.values())

    def predict(
        self, engine: CachingEngine, latents: Tensor, timestep: float, condition: Condition, *, may_skip: bool
    ) -> Tensor:
        own = self._of.setdefault(id(condition), FirstBlockCache(self._threshold))
        return engine.predict(latents, timestep, condition, own if may_skip else None)
