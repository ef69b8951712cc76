"""CFG-Zero* and NAG in the denoise loop: which velocity is made of which forwards."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wan_duet.pipelines.errors import SamplingError
from wan_duet.pipelines.plan.extra_guidance import ExtraGuidance, zeroed_steps
from wan_duet.pipelines.plan.sigmas import linear_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request.local_settings import stages_named
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.guidance import cfg, cfg_zero_star
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.schedule import Sampling, Schedule
from wan_duet.pipelines.sampling.solvers import SOLVERS

NOISE = torch.randn(2, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
POSITIVE, NEGATIVE = Condition(torch.ones(1, 1, 1)), Condition(-torch.ones(1, 1, 1))
AVOIDED = torch.full((1, 1, 1), 7.0)
GUIDED = {"high": 3.0, "low": 2.0}


@dataclass
class Recording:
    """Experts whose velocity depends on the prompt; they note every condition."""

    seen: list[tuple[str, Condition]] = field(default_factory=list)

    def use(self, expert: str) -> _Noting:
        return _Noting(self, expert)


@dataclass
class _Noting:
    calls: Recording
    name: str

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        self.calls.seen.append((self.name, condition))
        return torch.sin(3 * latents) + condition.text.sum() * timestep / 1000


def run(
    extra: ExtraGuidance | None,
    guidance: dict[str, float] = GUIDED,
    solver: str = "euler",
    avoided: Tensor | None = AVOIDED,
    boundary: float = 0.7,
) -> tuple[Tensor, Recording]:
    grid, calls = linear_grid(8, 1.0), Recording()
    latents = denoise(
        NOISE,
        Schedule.of_grid(grid, boundary),
        SOLVERS[solver](grid.sigmas),
        calls,
        Prompts(POSITIVE, NEGATIVE, avoided),
        guidance,
        Silent(),
        extra,
    )
    return latents, calls


def cores(positive: Tensor, negative: Tensor, scale: float, latents: Tensor, sigma: float) -> Tensor:
    """The arithmetic of CFGZeroStar of ComfyUI 0.25 on clean estimates, as a velocity, in float64."""
    x, cond, uncond = (value.double() for value in (latents, positive, negative))
    clean, unclean = x - sigma * cond, x - sigma * uncond
    flat = [value.flatten(1) for value in (x - clean, x - unclean)]
    factor = (flat[0] * flat[1]).sum(1) / ((flat[1] ** 2).sum(1) + 1e-8)
    factor = factor.view(-1, 1, 1, 1, 1)
    guided = unclean + scale * (clean - unclean)
    guided = guided + unclean * (factor - 1) + scale * unclean * (1 - factor)
    return (x - guided) / sigma


@given(st.floats(0, 12), st.floats(0.05, 1), st.integers(0, 2**31))
def test_cfg_zero_star_is_what_comfyui_computes(scale: float, sigma: float, seed: int) -> None:
    positive, negative, latents = torch.randn(3, 2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    made = cfg_zero_star(positive, negative, scale, latents, sigma).double()
    exact = cores(positive, negative, scale, latents, sigma)
    assert float((made - exact).norm() / exact.norm()) <= 1e-6


def test_equal_prompts_give_plain_guidance() -> None:
    velocity = NOISE.flip(-1)
    made = cfg_zero_star(velocity, velocity, 4.0, NOISE, 0.5)
    assert torch.allclose(made, cfg(velocity, velocity, 4.0), atol=1e-5)


def test_each_clip_of_a_batch_has_its_own_factor() -> None:
    positive, negative = NOISE, NOISE.flip(-1)
    both = cfg_zero_star(positive, negative, 3.0, NOISE, 0.5)
    alone = cfg_zero_star(positive[1:], negative[1:], 3.0, NOISE[1:], 0.5)
    assert torch.allclose(both[1:], alone, atol=1e-6)


@pytest.mark.parametrize("stage", ["high", "low"])
def test_cfg_zero_star_acts_on_the_named_stage_alone(stage: str) -> None:
    plain, _ = run(None)
    chosen, calls = run(ExtraGuidance(cfg_zero_star=(stage,)))
    assert not torch.equal(chosen, plain)
    assert len(calls.seen) == 16
    off, _ = run(ExtraGuidance(cfg_zero_star=(stage,)), {**GUIDED, stage: 1.0})
    unguided, _ = run(None, {**GUIDED, stage: 1.0})
    assert torch.equal(off, unguided)  # at guidance 1 it does nothing


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_zeroed_steps_leave_the_noise_and_make_no_forward(solver: str) -> None:
    extra = ExtraGuidance(cfg_zero_star=("high",), zero_steps=2)
    latents, calls = run(extra, solver=solver)
    assert len(calls.seen) == 12
    assert torch.isfinite(latents).all()
    schedule = Schedule.of_grid(linear_grid(8, 1.0), 0.7)
    assert len(Sampling(schedule, solver, GUIDED, extra).forwards) == 12


def test_only_guided_steps_of_the_named_experts_are_zeroed() -> None:
    experts = ("high",) * 3 + ("low",) * 5
    extra = ExtraGuidance(cfg_zero_star=("high",), zero_steps=5)
    assert zeroed_steps(experts, GUIDED, extra) == 3
    assert zeroed_steps(experts, {"high": 1.0, "low": 2.0}, extra) == 0
    assert zeroed_steps(experts, GUIDED, None) == 0


def test_a_run_of_zeroed_steps_alone_is_refused() -> None:
    with pytest.raises(SamplingError, match="cfg_zero_steps: all 8 steps"):
        run(ExtraGuidance(cfg_zero_star=("high", "low"), zero_steps=8))


def test_nag_goes_to_the_positive_forwards_of_its_stage_with_its_numbers() -> None:
    _, calls = run(ExtraGuidance(nag_scale={"high": 5.0, "low": 1.0}, nag_tau=3.0, nag_alpha=0.5))
    for expert, condition in calls.seen:
        if condition is NEGATIVE or expert == "low":
            assert condition.attention is None
        else:
            assert condition.attention is not None
            assert condition.attention[1:] == (5.0, 3.0, 0.5)
            assert torch.equal(condition.attention.negative, AVOIDED)
    assert len(calls.seen) == 16


@pytest.mark.parametrize("off", [{}, {"high": 1.0}, {"high": 1.0, "low": 1.0}])
def test_nag_that_is_off_gives_the_same_bits(off: dict[str, float]) -> None:
    plain, _ = run(None)
    latents, calls = run(ExtraGuidance(nag_scale=off))
    assert torch.equal(latents, plain)
    assert all(condition is POSITIVE or condition is NEGATIVE for _, condition in calls.seen)


def test_nag_at_guidance_1_makes_one_forward_a_step_with_one_condition_for_the_step_cache() -> None:
    _, calls = run(ExtraGuidance(nag_scale={"high": 5.0, "low": 5.0}), {"high": 1.0, "low": 1.0})
    assert len(calls.seen) == 8
    assert len({id(condition) for _, condition in calls.seen}) == 2


def test_nag_without_a_negative_prompt_is_refused() -> None:
    with pytest.raises(SamplingError, match="nag_scale: 5 on the high-noise expert needs a negative prompt"):
        run(ExtraGuidance(nag_scale={"high": 5.0}), avoided=None)


@pytest.mark.parametrize(
    ("name", "found"), [("off", ()), ("high", ("high",)), ("low", ("low",)), ("both", ("high", "low"))]
)
def test_stages_are_named_in_one_word(name: str, found: tuple[str, ...]) -> None:
    assert stages_named(name, ("high", "low")) == found


@given(
    st.floats(1, 20), st.floats(1, 20), st.floats(0.1, 9), st.floats(0, 1),
    st.sampled_from(["off", "high", "low", "both"]), st.integers(0, 9),
)  # fmt: skip
def test_json_gives_equal_settings_back(
    high: float, low: float, tau: float, alpha: float, stages: str, steps: int
) -> None:
    named = stages_named(stages, ("high", "low"))
    extra = ExtraGuidance.of({"high": high, "low": low}, tau, alpha, named, steps)
    assert (extra is None) == (high == low == 1 and not named)
    if extra is not None:
        assert ExtraGuidance.from_dict(extra.as_dict()) == extra
