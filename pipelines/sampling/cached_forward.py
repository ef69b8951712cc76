"""The interfaces between a step cache, the engine around it, and the forward that it shortens."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .engine import Condition

__all__ = ["BlockCache", "CachingEngine", "ExpertCache"]


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


class ExpertCache(Protocol):
    """The cache of one expert. It knows conditions by identity: the same two objects, step after step."""

    @property
    def forwards(self) -> int:
        """How many were asked for."""

    @property
    def skipped(self) -> int:
        """How many of them skipped blocks."""

    def predict(
        self, engine: CachingEngine, latents: Tensor, timestep: float, condition: Condition, *, may_skip: bool
    ) -> Tensor:
        """Predict as `Engine.predict`, from an earlier forward where that is near enough.

        may_skip: False computes this forward in any case.
        """
