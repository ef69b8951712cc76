"""MagCache: blocks are skipped where the size of what they add is known to have changed little.

arxiv.org/abs/2506.09045, section 3, and MagCache4Wan2.2/magcache_generate.py of Zehong-Ma/MagCache, whose
decisions these are. The sizes are measured beforehand (`plan.magnitudes`), so nothing is compared on the
device. Unlike there, the first and the last block are always computed, because the input and output
layers are streamed with them.
"""

from __future__ import annotations

from math import exp

from torch import Tensor

from ..plan.magnitudes import ResidualCurve
from .cached_forward import CachingEngine
from .engine import Condition
from .kept_residual import KeptResidual

__all__ = ["MagCache"]


class MagCache:
    """The cache of one expert.

    threshold:  the error up to which blocks are skipped: |1 - size now / size when computed|, added up over
                the forwards since then.
    curves:     sizes of the residual with the prompt and with the negative prompt.
    most_skips: the most forwards in a row that skip blocks.
    """

    def __init__(
        self,
        threshold: float,
        curves: tuple[ResidualCurve, ResidualCurve],
        most_skips: int,
    ) -> None:
        self._threshold, self._curves, self._most = threshold, curves, most_skips
        self._of: dict[int, _Residual] = {}
        self.forwards = self.skipped = 0

    def predict(
        self, engine: CachingEngine, latents: Tensor, timestep: float, condition: Condition, *, may_skip: bool
    ) -> Tensor:
        if id(condition) not in self._of:
            self._of[id(condition)] = _Residual(self._curves[min(len(self._of), 1)])
        own = self._of[id(condition)]
        own.decide(timestep, self._threshold, self._most if may_skip else 0)
        self.forwards += 1
        self.skipped += own.skips
        return engine.predict(latents, timestep, condition, own)


class _Residual(KeptResidual):
    """The cache of one condition, and how far its residual is expected to be from what it kept."""

    def __init__(self, curve: ResidualCurve) -> None:
        super().__init__()
        self._curve = curve
        self._size = self._error = 0.0
        self._skips = 0
        self.skips = False

    def decide(self, timestep: float, threshold: float, most_skips: int) -> None:
        """Decide whether the next forward skips blocks."""
        size = self._curve.at(timestep)
        self._error += abs(1 - exp(size - self._size))
        self._skips += 1
        self.skips = self.rest is not None and self._error < threshold and self._skips <= most_skips
        if not self.skips:
            self._size, self._error, self._skips = size, 0.0, 0

    def after_first(self, before: Tensor, after: Tensor) -> Tensor | None:  # noqa: ARG002 - as in BlockCache
        if self.skips and self.rest is not None:
            return after + self.rest
        self.compute(after)
        return None
