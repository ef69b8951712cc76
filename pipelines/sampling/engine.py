"""The one thing the denoise loop asks of a network, whatever network it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

__all__ = ["Condition", "Engine", "Experts", "Prompts"]


@dataclass(frozen=True)
class Condition:
    """What a forward is conditioned on. text: (1, L, D) UMT5 embeddings, padding zeroed, float32."""

    text: Tensor


@dataclass(frozen=True)
class Prompts:
    """`positive` and, for guidance, `negative`; None where no stage asks for guidance."""

    positive: Condition
    negative: Condition | None


class Engine(Protocol):
    """One expert, ready to run. It alone knows channels, patches, dtypes and where its weights live."""

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """Velocity (noise - clean) of normalised `latents` (B, C, T, H/8, W/8) at `timestep` in [0, 1000].

        Same shape, float32, on the device of `latents`.
        """


class Experts(Protocol):
    """Hands out the expert of a step; asking for another one is the moment of the switch."""

    def use(self, expert: str) -> Engine:
        """The engine of "high" or "low"."""
