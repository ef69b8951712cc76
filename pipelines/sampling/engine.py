"""The one thing the denoise loop asks of a network, whatever network it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Condition", "Engine", "Experts", "Prompts"]


@dataclass(frozen=True)
class Condition:
    """What a forward is conditioned on; each float32.

    text:     (1, L, D) UMT5 embeddings, padding zeroed.
    channels: (1, C, T, H/8, W/8) that enter the network behind those of the latents: the mask of the frames
              that are given, and those frames as normalised latents. None for a network that takes none.
    picture:  (1, tokens, D) CLIP features of the given frames, for a network that reads them.
    given:    (T,) bool, the latent frames that hold no noise: their time is 0 and nothing moves there. None
              where all frames are drawn.
    """

    text: Tensor
    channels: Tensor | None = None
    picture: Tensor | None = None
    given: Tensor | None = None

    def to(self, device: torch.device) -> Condition:
        moved = (None if tensor is None else tensor.to(device) for tensor in self._tensors())
        return Condition(*moved)  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return self.text, self.channels, self.picture, self.given


@dataclass(frozen=True)
class Prompts:
    """`positive` and, for guidance, `negative`; None where no stage asks for guidance."""

    positive: Condition
    negative: Condition | None

    def to(self, device: torch.device, given: Tensor | None = None) -> Prompts:
        """Both on `device`; given: the frames that hold no noise, for either."""

        def moved(condition: Condition) -> Condition:
            return replace(condition, given=given).to(device)

        return Prompts(moved(self.positive), None if self.negative is None else moved(self.negative))


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
