"""MagCache decides as its authors' code, from sizes measured once, whatever the grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import wan_duet.pipelines.plan
from wan_duet.pipelines.plan.cache_choice import CacheChoice
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.plan.magnitudes import ResidualCurve, magnitudes_of
from wan_duet.pipelines.plan.sigmas import GRIDS
from wan_duet.pipelines.sampling.cached_forward import BlockCache
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.step_cache import StepCache

MEASURED = json.loads((Path(wan_duet.pipelines.plan.__file__).parent / "magnitudes.json").read_text())
BOTH = [Condition(torch.zeros(1, 1, 1)), Condition(torch.ones(1, 1, 1))]


@dataclass
class Blocks:
    """An engine of three blocks: the first adds 1, the second 10 times the forward's number, the last 0."""

    computed: list[bool] = field(default_factory=list)

    def use(self, expert: str) -> Blocks:
        return self

    def predict(
        self, latents: Tensor, timestep: float, condition: Condition, cache: BlockCache | None = None
    ) -> Tensor:
        after = latents + 1
        hidden = None if cache is None else cache.after_first(latents, after)
        self.computed.append(hidden is None)
        if hidden is None:
            hidden = after + 10 * len(self.computed)
            if cache is not None:
                cache.before_last(hidden)
        return hidden


def schedule_of(name: str, steps: int | None = None, shift: float | None = None) -> Schedule:
    """The official grid of a family, or another one."""
    family, measured = FAMILIES[name], MEASURED[name]
    grid = GRIDS["unipc"][0](steps or measured["steps"], shift or measured["shift"])
    boundary = 1000 * (family.boundary or 0)
    experts = tuple("high" if timestep >= boundary else "low" for timestep in grid.timesteps)
    return Schedule(grid.sigmas, grid.timesteps, experts)


def decisions(name: str, schedule: Schedule, threshold: float) -> tuple[list[bool], StepCache]:
    """Whether each forward of a run was computed: prompt, negative prompt, step after step."""
    cache, blocks = (
        StepCache(CacheChoice("magcache", threshold), schedule, magnitudes_of(FAMILIES[name])),
        Blocks(),
    )
    experts = cache.around(blocks)
    for timestep, expert in zip(schedule.timesteps, schedule.experts, strict=True):
        for condition in BOTH:
            experts.use(expert).predict(torch.zeros(1, 2, 2), timestep, condition)
    return blocks.computed, cache


def published(
    name: str, schedule: Schedule, threshold: float, kept: Sequence[int] | None = None
) -> list[bool]:
    """The decisions of MagCache4Wan2.2/magcache_generate.py, with the counters of each expert its own.

    kept: the steps of the measured grid that `schedule` has; None: all of them.
    """
    kept = kept or range(len(schedule))
    measured, found = MEASURED[name], list[bool]()
    ratios = [[1.0, *measured["ratios"][each]] for each in ("prompt", "negative_prompt")]
    for expert, share in measured["computed"].items():
        own = [step for step, each in enumerate(schedule.experts) if each == expert]
        ratio, error, skips = [1.0, 1.0], [0.0, 0.0], [0, 0]
        for place, step in enumerate(own):
            for which in (0, 1):
                compute = True
                if place >= int(len(own) * share) and place > 0:
                    before = kept[own[place - 1]]
                    ratio[which] *= prod(ratios[which][before + 1 : kept[step] + 1])
                    skips[which] += 1
                    error[which] += abs(1 - ratio[which])
                    compute = not (error[which] < threshold and skips[which] <= measured["most_skips"])
                if compute:
                    ratio[which], error[which], skips[which] = 1.0, 0.0, 0
                found.append(compute)
    return found


@pytest.mark.parametrize("threshold", [0.02, 0.06, 0.24])
@pytest.mark.parametrize("name", MEASURED)
def test_on_the_measured_grid_it_skips_what_the_authors_skip(name: str, threshold: float) -> None:
    schedule = schedule_of(name)
    ours, cache = decisions(name, schedule, threshold)
    assert ours == published(name, schedule, threshold)
    assert False in ours or threshold < 0.06
    assert sum(cache.as_dict()["forwards"].values()) == 2 * len(schedule)
    assert sum(cache.as_dict()["skipped"].values()) == ours.count(False)


def test_the_two_experts_have_their_published_shares() -> None:
    """E006K2R04 for text; for an image the high-noise expert computes every step."""
    ours, cache = decisions("wan2.2-i2v-a14b", schedule_of("wan2.2-i2v-a14b"), 0.06)
    assert cache.as_dict()["skipped"]["high"] == 0
    assert cache.as_dict()["skipped"]["low"] > 0
    ours, _ = decisions("wan2.2-t2v-a14b", schedule_of("wan2.2-t2v-a14b"), 0.06)
    assert all(ours[: 2 * int(26 * 0.4)])
    assert all(ours[2 * 26 : 2 * (26 + int(14 * 0.4))])


def test_a_skipped_forward_adds_what_was_computed_last() -> None:
    schedule = schedule_of("wan2.2-ti2v-5b")
    cache, blocks = (
        StepCache(CacheChoice("magcache", 0.06), schedule, magnitudes_of(FAMILIES["wan2.2-ti2v-5b"])),
        Blocks(),
    )
    engine = cache.around(blocks).use("high")
    last = 0.0
    for timestep in schedule.timesteps:
        result = float(engine.predict(torch.zeros(1, 2, 2), timestep, BOTH[0]).mean())
        assert result == (1 + 10 * len(blocks.computed) if blocks.computed[-1] else last)
        last = result
    assert False in blocks.computed


@pytest.mark.parametrize("name", MEASURED)
def test_a_coarser_grid_has_the_ratios_of_the_steps_that_it_leaves_out(name: str) -> None:
    """Every second step of the measured grid: each ratio is the product of two."""
    whole = schedule_of(name)
    kept = [step for step in range(len(whole)) if step % 2 == 0]
    coarse = Schedule(
        (*(whole.sigmas[step] for step in kept), 0.0),
        tuple(whole.timesteps[step] for step in kept),
        tuple(whole.experts[step] for step in kept),
    )
    ours, _ = decisions(name, coarse, 0.06)
    assert ours == published(name, coarse, 0.06, kept)
    assert False in ours


@given(st.floats(0, 1000))
def test_a_curve_is_a_line_between_what_was_measured(timestep: float) -> None:
    curve = ResidualCurve((900.0, 500.0, 100.0), (0.0, -0.2, -1.0))
    found = curve.at(timestep)
    if timestep >= 900:
        assert found == 0
    elif timestep >= 500:
        assert found == pytest.approx(-0.2 * (900 - timestep) / 400)
    elif timestep >= 100:
        assert found == pytest.approx(-0.2 - 0.8 * (500 - timestep) / 400)
    else:
        assert found == -1


def test_a_family_says_that_it_was_measured_if_it_was() -> None:
    assert {name for name, family in FAMILIES.items() if family.mag_cache} == set(MEASURED)
    for name, family in FAMILIES.items():
        measured = magnitudes_of(family)
        assert (measured is not None) == (name in MEASURED)
        if measured is not None:
            assert set(measured.computed) == set(("high", "low")[: family.experts])
            assert MEASURED[name]["source"]
