"""The speech model as the executor knows it, and the condition of a clip that it is given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..kernels.choices import FloatChoices
from ..sampling.engine import Condition
from ..sampling.step_cache import BlockCache
from ..weights.recipe import DTypeRule, Recipe
from .expert import expert_dtypes
from .network_kind import NetworkKind
from .s2v import SpeechTransformer

__all__ = ["SPEECH_EXPERT", "ClipCondition"]


@dataclass(frozen=True, kw_only=True)
class ClipCondition(Condition):
    """What a clip is made after. Latents are normalised; all are float32 and batches of one.

    audio:     (1, states, audio_dim, frames of the clip).
    reference: (1, C, 1, h, w).
    motion:    (1, C, MOTION_LATENTS, h, w); None for the first clip.
    pose:      (1, C, T, h, w); None where no pose was given.
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
) -> Tensor:
    """What a speech transformer predicts, float32. Nothing is skipped in it.

    Raises ModelError for a condition of another kind.
    """
    del cache
    if not isinstance(condition, ClipCondition):
        raise ModelError("the speech model needs audio and an image for each clip, but got only a prompt")
    given = condition.on(latents.device, dtype)
    velocity: Tensor = network(
        latents.to(dtype), timestep, given.text, given.audio, given.reference, given.motion, given.pose
    )
    return velocity.float()


def speech_dtypes(dtype: torch.dtype) -> DTypeRule:
    """As an expert's, and float32 for the audio encoder: the official code computes it so."""
    of_expert = expert_dtypes(dtype)
    return lambda name: torch.float32 if name.startswith("casual_audio_encoder.") else of_expert(name)


def _blank(recipe: Recipe, choices: FloatChoices, device: torch.device) -> SpeechTransformer:
    """It has a forward of its own, which computes in one way, and no tables."""
    del choices, device
    try:
        with torch.device("meta"):
            network = SpeechTransformer(dict(recipe.config))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{recipe.files[0].parent / 'config.json'}: not a speech model: {error!r}"
        ) from error
    return network.requires_grad_(False).eval()


SPEECH_EXPERT = NetworkKind(_blank, speech_dtypes, speech_velocity, lambda _: "speech model", in_parts=False)
"""The speech transformer, asked with a ClipCondition."""
