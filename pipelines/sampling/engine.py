"""The interface between the denoise loop and a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .nag import AttentionGuidance

__all__ = ["Condition", "Engine", "Experts", "Prompts"]


@dataclass(frozen=True)
class Condition:
    """The conditions of a forward. All are float32 but `clean_frames`.

    text:          (1, L, D) UMT5 embeddings, padding zeroed.
    channels:      (1, C, T, H/8, W/8), concatenated to the channels of the latents: the mask of the input
                   images, then the images as normalised latents. None if the network takes no extra channels.
    clip_features: (1, tokens, D) of the input images. None if the network does not use CLIP.
    clean_frames:  (T,) bool, True for a latent frame without noise: its timestep and velocity are 0. None if
                   all frames are sampled.
    attention:     guidance inside the cross-attention to the text; None without NAG.
    seen:          (first, end) of the tokens of `text` that each latent frame sees; None: all see the whole.
    """

    text: Tensor
    channels: Tensor | None = None
    clip_features: Tensor | None = None
    clean_frames: Tensor | None = None
    attention: AttentionGuidance | None = None
    seen: tuple[tuple[int, int], ...] | None = None

    def to(self, device: torch.device) -> Condition:
        moved = (None if tensor is None else tensor.to(device) for tensor in self._tensors())
        return Condition(*moved, seen=self.seen)  # type: ignore[arg-type, misc]

    def _tensors(self) -> tuple[Tensor | AttentionGuidance | None, ...]:
        return self.text, self.channels, self.clip_features, self.clean_frames, self.attention


@dataclass(frozen=True)
class Prompts:
    """The conditions of both prompts. `negative` is None if no stage uses guidance.

    avoided: (1 or B, L, D) embeddings of the negative prompt of NAG; None if no stage uses it.
    """

    positive: Condition
    negative: Condition | None
    avoided: Tensor | None = None

    def to(self, device: torch.device, clean_frames: Tensor | None = None) -> Prompts:
        """Return both conditions on `device`, with these `clean_frames`."""

        def moved(condition: Condition) -> Condition:
            return replace(condition, clean_frames=clean_frames).to(device)

        negative = None if self.negative is None else moved(self.negative)
        avoided = None if self.avoided is None else self.avoided.to(device)
        return Prompts(moved(self.positive), negative, avoided)


class Engine(Protocol):
    """One expert, ready to run. Only it knows channels, patches, dtypes and where its weights are."""

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        """Return the velocity (noise - clean) at `timestep` (0 to 1000): same shape, float32, same device.

        latents: normalised, (B, C, T, H/8, W/8), float32.
        """


class Experts(Protocol):
    """The experts of a run. Asking for another expert than before switches to it."""

    def use(self, expert: str) -> Engine:
        """Return the engine of the "high" or "low" expert."""
