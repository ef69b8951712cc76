"""Samples on a model of the host: its networks and patches, our plan, solvers and loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ModelError
from ..loading.host_model import HostModel, HostPrompts, HostStage, HostStart
from ..plan.sigmas import stages_of, step_scales
from ..progress import Progress
from ..sampling.loop import AfterStep, require_finite, walk
from ..sampling.noise import noise_sampler
from ..sampling.schedule import Sampling
from ..sampling.solvers import Solver, new_solver
from .stages import PURE_NOISE_FROM

__all__ = ["sample_on_host"]

Predict = Callable[[Tensor, float], Tensor]


def sample_on_host(
    model: HostModel, sampling: Sampling, start: HostStart, prompts: HostPrompts, progress: Progress
) -> Tensor:
    """Run the steps of `sampling` and return latents in VAE space, float32, on the CPU.

    Raises ModelError when a step needs an expert that is not there, SamplingError when a stage ends in NaN or
    Inf, and whatever `progress.check` raises between steps.
    A schedule without a step returns the latents unchanged.
    """
    schedule = sampling.schedule
    if sampling.extra is not None:
        raise ModelError(
            "nag_scale, cfg_zero_star: a model of ComfyUI is guided by ComfyUI; patch its MODEL instead, "
            "before Wan Duet Model from ComfyUI"
        )
    if not len(schedule):
        return start.latents
    for expert in dict.fromkeys(schedule.experts):
        if expert not in model.facts:
            raise ModelError(
                f"{expert}: not connected to Wan Duet Model from ComfyUI, but these steps need it; connect "
                "that MODEL, or set boundary to -1"
            )
    draw = noise_sampler(start.latents.shape, start.seed)
    solver = new_solver(sampling.solver, schedule.sigmas, draw)
    progress.begin("sampling", len(schedule), "steps")
    scales = step_scales(schedule.experts, sampling.guidance)
    stages = [
        _stage(sampling, network, scale, steps, solver, progress)
        for (network, scale), steps in stages_of(list(zip(schedule.networks, scales, strict=True)))
    ]
    return model.networks.sample(stages, start, prompts)


def _stage(
    sampling: Sampling, network: str, scale: float, steps: range, solver: Solver, progress: Progress
) -> HostStage:
    schedule, expert_sigmas = sampling.schedule, sampling.schedule.expert_sigmas

    def stage_walk(latents: Tensor, predict: Predict, report: AfterStep) -> Tensor:
        finite: list[Tensor] = []

        def velocity(index: int, latents: Tensor) -> Tensor:
            progress.check()
            found = (latents - predict(latents, expert_sigmas[index])) / expert_sigmas[index]
            finite.append(torch.isfinite(found).all())
            return found

        def after(index: int, clean: Tensor, before: Tensor) -> None:
            report(index - steps.start, clean, before)

        latents = walk(latents, schedule, steps, solver, velocity, after)
        require_finite(finite, schedule, steps.start)  # once a stage: reading a flag waits for the device
        return latents

    def report(index: int, clean: Tensor, _: Tensor) -> None:
        progress.advance(steps.start + index + 1, lambda: clean)

    return HostStage(
        expert=network,
        sigmas=schedule.sigmas[steps.start : steps.stop + 1],
        expert_sigmas=expert_sigmas[steps.start : steps.stop + 1],
        guidance=scale,
        pure=steps.start == 0 and schedule.sigmas[0] >= PURE_NOISE_FROM,
        walk=stage_walk,
        report=report,
    )
