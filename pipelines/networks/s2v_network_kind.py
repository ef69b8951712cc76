"""The speech model as a NetworkKind, and the conditions of one clip."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..kernels.choices import FloatChoices
from ..parallel.rank_group import RankGroup
from ..sampling.cached_forward import BlockCache
from ..sampling.engine import Condition
from ..weights.recipe import DTypeRule, Recipe
from .empty_layers import empty_network
from .expert import expert_dtypes
from .network_kind import NetworkKind
from .s2v import SpeechTransformer

__all__ = ["SPEECH_EXPERT", "ClipCondition"]


@dataclass(frozen=True, kw_only=True)
class ClipCondition(Condition):
    """The conditions of a clip. Latents are normalised. All are float32, with a batch of one.

    audio:     (1, states, audio_dim, frames of the clip).
    reference: (1, C, 1, h, w).
    motion:    (1, C, MOTION_LATENTS, h, w); None for the first clip.
    pose:      (1, C, T, h, w); None without a pose video.
    """

    audio: Tensor
    reference: Tensor
    motion: Tensor | None
    pose: Tensor | None

    def on(self, device: torch.device, dtype: torch.dtype) -> ClipCondition:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device, dtype) for name, value in values.items()
        }
        return ClipCondition(**moved)


def speech_velocity(
    network: Any,
    latents: Tensor,
    timestep: float,
    condition: Condition,
    dtype: torch.dtype,
    cache: BlockCache | None = None,
    *,
    ranks: RankGroup | None = None,
) -> Tensor:
    """Return the velocity that a speech transformer predicts, float32. It never skips blocks.

    Raises ModelError for a condition of another kind.
    """
    del cache
    if not isinstance(condition, ClipCondition):
        raise ModelError("the speech model needs audio and an image for each clip, but got only a prompt")
    given = condition.on(latents.device, dtype)
    velocity: Tensor = network(
        latents.to(dtype),
        timestep,
        given.text,
        given.audio,
        given.reference,
        given.motion,
        given.pose,
        ranks,
    )
    return velocity.float()


def speech_dtypes(dtype: torch.dtype) -> DTypeRule:
    """Return the dtypes of an expert, with float32 for the audio encoder, as in the official code."""
    of_expert = expert_dtypes(dtype)
    return lambda name: torch.float32 if name.startswith("casual_audio_encoder.") else of_expert(name)


def _blank(recipe: Recipe, choices: FloatChoices, device: torch.device) -> SpeechTransformer:
    """Build the network on the meta device. It ignores `choices`: its forward has one implementation."""
    del choices, device
    return empty_network(recipe, "a speech model", SpeechTransformer).requires_grad_(False).eval()


SPEECH_EXPERT = NetworkKind(_blank, speech_dtypes, speech_velocity, lambda _: "speech model", in_parts=False)
"""The speech transformer, asked with a ClipCondition."""
