"""How the prompts of a step become one velocity: classifier-free guidance, CFG-Zero*, and NAG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor

from ..errors import SamplingError
from ..plan.extra_guidance import ExtraGuidance
from .engine import Condition, Engine, Prompts
from .nag import AttentionGuidance

__all__ = [
    "BothVelocities",
    "cfg",
    "cfg_zero_star",
    "combined",
    "one_after_the_other",
    "positive_conditions",
    "required_negative",
]

BothVelocities: TypeAlias = Callable[[Engine, Tensor, float, Condition, Condition], tuple[Tensor, Tensor]]
"""(expert, latents, timestep, positive, negative) -> the velocities for both prompts."""


def one_after_the_other(check: Callable[[], None]) -> BothVelocities:
    """Return what predicts for both prompts on one device. check: called between them; may stop the run."""

    def both(
        expert: Engine, latents: Tensor, timestep: float, positive: Condition, negative: Condition
    ) -> tuple[Tensor, Tensor]:
        first = expert.predict(latents, timestep, positive)
        check()
        return first, expert.predict(latents, timestep, negative)

    return both


def cfg(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Return classifier-free guidance, arxiv.org/abs/2207.12598: negative + scale * (positive - negative)."""
    return negative + scale * (positive - negative)


def cfg_zero_star(positive: Tensor, negative: Tensor, scale: float, latents: Tensor, sigma: float) -> Tensor:
    """Return the guided velocity of CFG-Zero*, arxiv.org/abs/2503.18886, as ComfyUI's CFGZeroStar has it.

    Velocities and latents are (B, C, T, H/8, W/8). sigma: noise level of the latents, above 0.

    The factor s = <positive, negative> / |negative|^2 is the paper's, one for each clip. ComfyUI scales the
    negative clean estimate by it, where the paper scales the negative velocity. The results differ by
    (scale - 1) * (1 - s) * latents / sigma; s is close to 1.
    """
    ours, theirs = positive.flatten(1), negative.flatten(1)
    factor = (ours * theirs).sum(1) / ((theirs**2).sum(1) + 1e-8)
    missing = (1 - factor).view(-1, *[1] * (positive.ndim - 1))
    return cfg(positive, negative, scale) + (scale - 1) * missing * (negative - latents / sigma)


def combined(positive: Tensor, negative: Tensor, scale: float, star: tuple[Tensor, float] | None) -> Tensor:
    """Return the guided velocity. star: latents and noise level for CFG-Zero*; None for plain guidance."""
    return cfg(positive, negative, scale) if star is None else cfg_zero_star(positive, negative, scale, *star)


def positive_conditions(
    prompts: Prompts, extra: ExtraGuidance | None, experts: Sequence[str]
) -> dict[str, Condition]:
    """Return the positive condition of each expert, with NAG where it is on.

    Raises SamplingError when NAG has no negative prompt.
    """
    made: dict[str, Condition] = {}
    for name in dict.fromkeys(experts):
        scale = 1.0 if extra is None else extra.nag_scale.get(name, 1.0)
        if extra is None or scale == 1:
            made[name] = prompts.positive
        elif prompts.avoided is None:
            raise SamplingError(
                f"nag_scale: {scale:g} on the {name}-noise expert needs a negative prompt, but there is "
                "none; give one, or set nag_scale to 1"
            )
        else:
            guidance = AttentionGuidance(prompts.avoided, scale, extra.nag_tau, extra.nag_alpha)
            made[name] = replace(prompts.positive, attention=guidance)
    return made


def required_negative(prompts: Prompts, scale: float) -> Condition:
    """Return the condition of the negative prompt. Raises SamplingError if there is none."""
    if prompts.negative is None:
        raise SamplingError(
            f"negative prompt: none given, but guidance {scale} needs one; give one, or guidance 1"
        )
    return prompts.negative
