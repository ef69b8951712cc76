"""Makes the plan of one clip of speech as long as its sound."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["until_the_sound_ends"]


def until_the_sound_ends(plan: Plan, seconds: float, max_seconds: float | None) -> Plan:
    """Extend the plan from one clip to as many as the sound needs.

    A clip does not include the latent frame of the input image.
    """
    frames = round(seconds * plan.fps)
    if max_seconds is not None:
        frames = min(frames, max(round(max_seconds * plan.fps), 1))
    clip = plan.latent_shape[1] - 1
    clips = -(-frames // (4 * clip))
    return replace(
        plan,
        latent_shape=(plan.latent_shape[0], clip, *plan.latent_shape[2:]),
        frames_generated=clips * 4 * clip,
        frames_delivered=frames,
        frames_out=frames,
        forwards=clips * plan.forwards,
        size_bytes={**plan.size_bytes, "frames": 3 * frames * plan.width * plan.height},
    )
