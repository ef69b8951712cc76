"""The denoise loop: the same one for every kind of request, every solver and any number of experts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SamplingError
from ..progress import Progress
from .engine import Engine, Experts, Prompts
from .schedule import Schedule
from .solvers import Solver

__all__ = ["denoise"]


def denoise(
    latents: Tensor,
    schedule: Schedule,
    solver: Solver,
    experts: Experts,
    prompts: Prompts,
    guidance: dict[str, float],
    progress: Progress,
) -> Tensor:
    """Latents after the last step of `schedule`.

    latents:  (B, C, T, H/8, W/8), normalised latent space, float32, at noise level schedule.sigmas[0].
    solver:   fresh, built from schedule.sigmas.
    guidance: scale per expert; a stage whose scale is 1 makes no unconditional forward.

    Raises SamplingError when an expert produces numbers that are not finite, and whatever `progress.check`
    raises when the user stops the run: between any two forwards.
    """
    progress.begin("sampling", len(schedule), "steps")
    for index, name in enumerate(schedule.experts):
        progress.check()
        expert, sigma = experts.use(name), schedule.sigmas[index]
        velocity = _guided(expert, latents, schedule.timesteps[index], prompts, guidance[name], progress)
        if not bool(torch.isfinite(velocity).all()):
            raise SamplingError(
                f"the {name}-noise expert produced numbers that are not finite at step {index + 1} of "
                f"{len(schedule)} (sigma {sigma:.3f}); try precision fp32, or a lower LoRA scale"
            )
        clean = latents - sigma * velocity
        latents = solver.step(index, latents, velocity)
        progress.advance(index + 1, lambda estimate=clean: estimate)  # type: ignore[misc]
    return latents


def _guided(
    expert: Engine, latents: Tensor, timestep: float, prompts: Prompts, scale: float, progress: Progress
) -> Tensor:
    """Classifier-free guidance, arxiv.org/abs/2207.12598: negative + scale * (positive - negative)."""
    positive = expert.predict(latents, timestep, prompts.positive)
    if scale == 1:
        return positive
    if prompts.negative is None:
        raise SamplingError(
            f"negative prompt: none given, but guidance {scale} needs one; give one, or guidance 1"
        )
    progress.check()
    negative = expert.predict(latents, timestep, prompts.negative)
    return negative + scale * (positive - negative)
