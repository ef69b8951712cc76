"""The denoise loop: the same one for every kind of request, every solver and any number of experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import SamplingError
from ..plan.extra_guidance import ExtraGuidance, zeroed_steps
from ..plan.sigmas import Guidance, step_scales
from ..progress import Progress
from .engine import Experts, Prompts
from .guidance import BothVelocities, combined, one_after_the_other, positive_conditions, required_negative
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
    guidance: Guidance,
    progress: Progress,
    extra: ExtraGuidance | None = None,
    both: BothVelocities | None = None,
) -> Tensor:
    """Return the latents after the last step of `schedule`.

    latents:  (B, C, T, H/8, W/8), normalised latent space, float32, at noise level schedule.sigmas[0].
    solver:   new, built from schedule.sigmas.
    guidance: scale per expert, or of each step; at scale 1 there is no forward for the negative prompt.
    extra:    NAG and CFG-Zero*; None for neither.
    both:     predicts for both prompts; None does one after the other.

    Raises SamplingError if an expert returns NaN or Inf or a negative prompt is missing, and what
    `progress.check`, called before every forward, raises to stop the run.
    """
    progress.begin("sampling", len(schedule), "steps")
    positives = positive_conditions(prompts, extra, schedule.experts)
    scales = step_scales(schedule.experts, guidance)
    zeroed = zeroed_steps(schedule.experts, scales, extra)
    both = both or one_after_the_other(progress.check)
    if 0 < len(schedule) <= zeroed:
        raise SamplingError(f"cfg_zero_steps: all {zeroed} steps would leave the noise as it is; give fewer")

    def velocity(index: int, latents: Tensor) -> Tensor:
        progress.check()
        if index < zeroed:
            return torch.zeros_like(latents)
        found = guided(index, latents)
        require_finite([torch.isfinite(found).all()], schedule, index)
        return found

    def guided(index: int, latents: Tensor) -> Tensor:
        name, timestep = schedule.experts[index], schedule.timesteps[index]
        expert, scale = experts.use(schedule.networks[index]), scales[index]
        if scale == 1:
            return expert.predict(latents, timestep, positives[name])
        found = both(expert, latents, timestep, positives[name], required_negative(prompts, scale))
        star = extra is not None and name in extra.cfg_zero_star
        return combined(*found, scale, (latents, schedule.expert_sigmas[index]) if star else None)

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
