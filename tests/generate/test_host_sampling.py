"""Our loop on a model of a host: its stages, the noise levels its experts receive, and when it stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.errors import ModelError, SamplingError
from wan_duet.pipelines.generate.host_sampling import sample_on_host
from wan_duet.pipelines.loading.host_family import HostFacts
from wan_duet.pipelines.loading.host_model import HostModel, HostPrompts, HostStage, HostStart
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.plan.sigmas import GRIDS
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.noise import add_noise, from_leftover, initial_noise, to_leftover
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.sampling.solvers import new_solver

SHAPE = (1, 2, 1, 2, 2)
FACTS = HostFacts("WAN21_T2V", 16, 16, 5120)
GUIDANCE = {"high": 3.0, "low": 4.0}


def velocity(latents: Tensor, sigma: float) -> Tensor:
    return torch.sin(latents * 3) + sigma


@dataclass
class Networks:
    """A host whose two experts are one formula. spoiled: the call whose answer holds a NaN."""

    spoiled: int = -1
    asked: list[float] = field(default_factory=list)
    stages: list[HostStage] = field(default_factory=list)

    def sample(self, stages: Sequence[HostStage], start: HostStart, prompts: HostPrompts) -> Tensor:
        latents, noise = start.latents, start.noise
        for stage in stages:
            self.stages.append(stage)
            first, last = stage.sigmas[0], stage.sigmas[-1]
            noisy = from_leftover(latents, first) if noise is None else add_noise(latents, noise, first)
            walked = stage.walk(
                noise if stage.pure and noise is not None else noisy, self.clean, stage.report
            )
            latents, noise = to_leftover(walked, last) if last else walked, None
        return latents

    def clean(self, latents: Tensor, sigma: float) -> Tensor:
        self.asked.append(sigma)
        spoiled = float("nan") if len(self.asked) - 1 == self.spoiled else 0.0
        return latents - sigma * velocity(latents, sigma) + spoiled


class Watched(Silent):
    """Notes what a user sees. stop_after: steps, then the user stops the run."""

    def __init__(self, stop_after: int = 99) -> None:
        self.done: list[int] = []
        self.stop_after = stop_after

    def check(self) -> None:
        if len(self.done) >= self.stop_after:
            raise KeyboardInterrupt

    def advance(self, done: int, preview: object = None) -> None:
        self.done.append(done)


def sampling(solver: str, boundary: float | None = 0.875, steps: int = 8) -> Sampling:
    make_grid, walker = GRIDS[solver]
    return Sampling(Schedule.of_grid(make_grid(steps, 5.0), boundary), walker, GUIDANCE)


def run(networks: Networks, wanted: Sampling, progress: Silent | None = None, pair: bool = True) -> Tensor:
    facts = dict.fromkeys(("high", "low") if pair else ("high",), FACTS)
    family = FAMILIES["wan2.2-t2v-a14b"]
    model = HostModel("WAN21_T2V", family, family.boundary, networks, facts=facts)  # type: ignore[arg-type]
    start = HostStart(torch.zeros(SHAPE), initial_noise(SHAPE, 1), None, 1)
    return sample_on_host(model, wanted, start, HostPrompts(None, None), progress or Silent())


@pytest.mark.parametrize("solver", ["euler", "unipc", "dpm++"])
def test_two_stages_are_one_walk_with_one_solver(solver: str) -> None:
    wanted = sampling(solver)
    schedule, latents = wanted.schedule, initial_noise(SHAPE, 1)
    walker = new_solver(wanted.solver, schedule.sigmas)
    for index, timestep in enumerate(schedule.timesteps):
        latents = walker.step(index, latents, velocity(latents, timestep / 1000))
    assert torch.allclose(run(Networks(), wanted), latents, atol=1e-5)


def test_each_stage_is_one_call_and_each_step_one_forward() -> None:
    networks, wanted, progress = Networks(), sampling("unipc"), Watched()
    run(networks, wanted, progress)
    high = wanted.schedule.experts.count("high")
    assert [stage.expert for stage in networks.stages] == ["high", "low"]
    assert [len(stage.expert_sigmas) - 1 for stage in networks.stages] == [high, 8 - high]
    assert [stage.guidance for stage in networks.stages] == [3.0, 4.0]
    assert networks.asked == [timestep / 1000 for timestep in wanted.schedule.timesteps]
    assert progress.done == list(range(1, 9))


def test_a_phase_is_a_stage_of_its_own_and_the_walk_stays_the_same() -> None:
    wanted, networks = sampling("unipc"), Networks()
    schedule = wanted.schedule
    high, scales = schedule.experts.count("high"), (2.0, 1.0, 1.0, *(4.0,) * 5)
    named = ("high", "high", *("high+1",) * (high - 2), *("low",) * (8 - high))
    phases = Sampling(replace(schedule, networks=named), wanted.solver, scales)
    assert torch.allclose(run(networks, phases), run(Networks(), wanted), atol=1e-5)
    found = [(stage.expert, len(stage.sigmas) - 1, stage.guidance) for stage in networks.stages]
    expected = [(*one, len(list(same))) for one, same in groupby(zip(named, scales, strict=True))]
    assert [(name, scale, steps) for name, steps, scale in found] == expected
    assert networks.asked == [timestep / 1000 for timestep in schedule.timesteps]


def test_a_timestep_truncated_to_0_still_gives_a_velocity() -> None:
    schedule = Schedule((0.5, 0.0004, 0.0), (500.0, 0.0), ("high", "high"))
    assert torch.isfinite(run(Networks(), Sampling(schedule, "euler", GUIDANCE))).all()


@pytest.mark.parametrize(
    ("spoiled", "words"), [(0, "high-noise expert .* step 1 of 8"), (7, "low-.* step 8")]
)
def test_numbers_that_are_not_finite_name_the_first_step(spoiled: int, words: str) -> None:
    with pytest.raises(SamplingError, match=words):
        run(Networks(spoiled), sampling("euler"))


def test_a_stop_is_heard_before_the_next_forward() -> None:
    networks = Networks()
    with pytest.raises(KeyboardInterrupt):
        run(networks, sampling("euler"), Watched(stop_after=3))
    assert len(networks.asked) == 3


def test_a_missing_expert_is_named_before_anything_runs() -> None:
    networks = Networks()
    with pytest.raises(ModelError, match="low: not connected to Wan Duet Model from ComfyUI"):
        run(networks, sampling("euler"), pair=False)
    assert not networks.asked
