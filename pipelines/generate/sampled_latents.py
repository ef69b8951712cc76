"""The latents of a run: prompt and inputs are encoded, then the experts sample."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..loading.host_model import HostModel, HostPrompts, HostStart
from ..plan.magnitudes import magnitudes_of
from ..sampling.engine import Prompts
from ..sampling.noise import StartLatents, initial_noise, noise_sampler
from ..sampling.schedule import Sampling, Schedule
from ..sampling.step_cache import StepCache
from ..sampling.step_fingerprints import StepFingerprints
from ..sampling.windowed_experts import free_noise
from .conditions import ImageConditions
from .host_sampling import sample_on_host
from .kept_latents import Sampled
from .prepared_run import Run
from .prompt import expanded_prompt, prompt_conditions
from .result import StageTimer
from .stages import sample
from .start_images import conditions_of
from .start_latents import input_latents

__all__ = ["sample_latents"]


def sample_latents(run: Run, timer: StageTimer) -> Sampled:
    """Encode prompt and inputs of a run, and sample. Raises SamplingError and ModelError as `run` does."""
    with timer.stage("prompt"):
        prompt = expanded_prompt(run)
    with timer.stage("text"):
        prompts, notes = prompt_conditions(run, prompt)
    with timer.stage("input"):
        latents = input_latents(run)
        conditions = conditions_of(run)
    cache = _step_cache(run)
    steps = StepFingerprints(run.progress)
    with timer.stage("sampling"):
        latents = _sample(replace(run, progress=steps), latents, conditions, prompts, cache)
    acceleration = None if cache is None else cache.as_dict()
    return Sampled(latents, prompt, notes, acceleration, tuple(steps.taken))


def _step_cache(run: Run) -> StepCache | None:
    """Return the new step cache that the run chose; None computes every step."""
    if run.cache is None:
        return None
    return StepCache(run.cache, Schedule.of_plan(run.plan), magnitudes_of(run.model.family))


def _sample(
    run: Run,
    latents: Tensor,
    conditions: ImageConditions,
    prompts: Prompts | HostPrompts,
    cache: StepCache | None,
) -> Tensor:
    seed = run.plan.seed
    if isinstance(prompts, HostPrompts):
        return _sample_on_host(run, latents, conditions, prompts)
    noise, windows = initial_noise(latents.shape, seed), run.plan.context_windows
    if windows is not None and windows.freenoise:
        noise = free_noise(noise, windows, seed)
    start = StartLatents(
        conditions.start(latents),
        noise,
        kept=conditions.frames,
        noise_sampler=noise_sampler(latents.shape, seed),
    )
    return sample(
        run.own_model,
        Sampling.of_plan(run.plan),
        start,
        conditions.beside(prompts, run.model.vae),
        run.memory,
        run.progress,
        check_memory=False,  # done before the run started
        cache=cache,
        residency=run.estimate.residency,
        choices=run.choices,
        ranks=run.ranks,
    )


def _sample_on_host(run: Run, latents: Tensor, conditions: ImageConditions, prompts: HostPrompts) -> Tensor:
    model, plan = run.model, run.plan
    assert isinstance(model, HostModel)  # noqa: S101
    mask = None if conditions.frames is None else (~conditions.frames).float().view(1, 1, -1, 1, 1)
    start = HostStart(conditions.start(latents), initial_noise(latents.shape, plan.seed), mask, plan.seed)
    return sample_on_host(
        model, Sampling.of_plan(plan), start, conditions.on_host(prompts, model), run.progress
    )
