"""The denoise loop: the same one for every kind of request, every solver and any number of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import SamplingError
from ..progress import Progress
from .engine import Engine, Experts, Prompts
from .schedule import Schedule
from .solvers import Solver

__all__ = ["AfterStep", "denoise", "require_finite", "walk"]

StepVelocity = Callable[[int, Tensor], Tensor]  # (step, latents) -> guided velocity
AfterStep = Callable[[int, Tensor, Tensor], None]  # (step, clean estimate, latents before the step)


def denoise(
    latents: Tensor,
    schedule: Schedule,
    solver: Solver,
    experts: Experts,
    prompts: Prompts,
    guidance: dict[str, float],
    progress: Progress,
) -> Tensor:
    """Return the latents after the last step of `schedule`.

    latents:  (B, C, T, H/8, W/8), normalised latent space, float32, at noise level schedule.sigmas[0].
    solver:   new, built from schedule.sigmas.
    guidance: scale per expert; an expert with scale 1 makes no forward for the negative prompt.

    Raises SamplingError if an expert returns NaN or Inf, and what `progress.check` raises to stop the run; it
    is called before every forward.
    """
    progress.begin("sampling", len(schedule), "steps")

    def velocity(index: int, latents: Tensor) -> Tensor:
        progress.check()
        name = schedule.experts[index]
        expert, timestep = experts.use(name), schedule.timesteps[index]
        found = _guided(expert, latents, timestep, prompts, guidance[name], progress)
        require_finite([torch.isfinite(found).all()], schedule, index)
        return found

    def report(index: int, clean: Tensor, _: Tensor) -> None:
        progress.advance(index + 1, lambda: clean)

    return walk(latents, schedule, range(len(schedule)), solver, velocity, report)


def walk(
    latents: Tensor,
    schedule: Schedule,
    steps: range,
    solver: Solver,
    velocity: StepVelocity,
    report: AfterStep,
) -> Tensor:
    """Return the latents after the last of `steps`, which are consecutive steps of `schedule`.

    latents: (B, C, T, H/8, W/8), normalised, at noise level schedule.sigmas[steps.start].
    solver:  built from schedule.sigmas; it has made all earlier steps.
    report:  called after each velocity.
    """
    for index in steps:
        found = velocity(index, latents)
        clean, before = latents - schedule.sigmas[index] * found, latents
        latents = solver.step(index, latents, found)
        report(index, clean, before)
    return latents


def require_finite(finite: Sequence[Tensor], schedule: Schedule, first: int) -> None:
    """Raise SamplingError for the first step whose flag is False. finite: one bool tensor per step from
    `first` on; reading them waits for the device once.
    """
    for index, good in enumerate(torch.stack(list(finite)).tolist(), first):
        if not good:
            name, sigma = schedule.experts[index], schedule.sigmas[index]
            raise SamplingError(
                f"the {name}-noise expert produced NaN or Inf at step {index + 1} of "
                f"{len(schedule)} (sigma {sigma:.3f}); try precision fp32, or a lower LoRA scale"
            )


def _guided(
    expert: Engine, latents: Tensor, timestep: float, prompts: Prompts, scale: float, progress: Progress
) -> Tensor:
    """Return classifier-free guidance, arxiv.org/abs/2207.12598: negative + scale * (positive - negative)."""
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
