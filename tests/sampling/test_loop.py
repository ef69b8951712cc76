"""The denoise loop does the forwards that the plan counts, in the right expert, and stops when it must."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wan_duet.pipelines.errors import SamplingError
from wan_duet.pipelines.plan.sigmas import GRIDS, SigmaGrid, from_sigmas, lightning_grid, linear_grid, split
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.solvers import SOLVERS, Euler

POSITIVE, NEGATIVE = Condition(torch.ones(1, 1, 1)), Condition(torch.zeros(1, 1, 1))
NOISE = torch.randn(1, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))


@dataclass
class Calls:
    """Experts whose velocity field leads straight to `clean`; they count who was asked for what."""

    clean: Tensor = field(default_factory=lambda: torch.full_like(NOISE, 0.25))
    seen: list[tuple[str, str, float]] = field(default_factory=list)
    broken: str | None = None

    def use(self, expert: str) -> _Named:
        return _Named(self, expert)


@dataclass
class _Named:
    calls: Calls
    name: str

    def predict(self, latents: Tensor, timestep: float, condition: Condition) -> Tensor:
        prompt = "positive" if condition is POSITIVE else "negative"
        self.calls.seen.append((self.name, prompt, timestep))
        velocity = (latents - self.calls.clean) / (timestep / 1000)
        return velocity * float("nan") if self.calls.broken == self.name else velocity


class Stop(BaseException):
    """As ComfyUI's own: not an Exception."""


@dataclass
class StopAt(Silent):
    check_number: int
    checks: int = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.check_number:
            raise Stop


def run(
    grid: SigmaGrid,
    calls: Calls,
    guidance: dict[str, float],
    solver: str = "euler",
    progress: Silent | None = None,
) -> Tensor:
    schedule = Schedule.of_grid(grid, 0.875)
    return denoise(
        NOISE,
        schedule,
        SOLVERS[solver](grid.sigmas),
        calls,
        Prompts(POSITIVE, NEGATIVE),
        guidance,
        progress or Silent(),
    )


@pytest.mark.parametrize("solver", list(SOLVERS))
@given(steps=st.integers(1, 12), shift=st.floats(1, 12))
@settings(max_examples=15, deadline=None)
def test_every_solver_follows_a_straight_flow_exactly(solver: str, steps: int, shift: float) -> None:
    calls = Calls()
    grid = linear_grid(steps, shift)
    result = run(grid, calls, {"high": 1.0, "low": 1.0}, solver)
    assert torch.allclose(result, calls.clean, atol=1e-4)
    assert len(calls.seen) == steps


@pytest.mark.parametrize("high", [1.0, 3.5])
@pytest.mark.parametrize("low", [1.0, 4.0])
def test_a_stage_of_scale_one_makes_no_unconditional_forward(high: float, low: float) -> None:
    calls = Calls()
    grid = GRIDS["unipc"][0](10, 5.0)
    run(grid, calls, {"high": high, "low": low})
    on_high = split(grid, 0.875)
    counted = Counter((expert, prompt) for expert, prompt, _ in calls.seen)
    assert counted["high", "positive"] == on_high
    assert counted["low", "positive"] == 10 - on_high
    assert counted["high", "negative"] == (on_high if high != 1 else 0)
    assert counted["low", "negative"] == (10 - on_high if low != 1 else 0)


def test_lightning_runs_two_steps_on_each_expert_at_exact_timesteps() -> None:
    calls = Calls()
    run(lightning_grid(), calls, {"high": 1.0, "low": 1.0})
    assert [expert for expert, _, _ in calls.seen] == ["high", "high", "low", "low"]
    assert [timestep for _, _, timestep in calls.seen] == pytest.approx([1000, 937.5, 833.333, 625], abs=1e-3)


def test_external_sigmas_may_start_late_and_end_early() -> None:
    calls = Calls()
    grid = from_sigmas([0.9, 0.8, 0.5])
    run(grid, calls, {"high": 1.0, "low": 1.0})
    assert [expert for expert, _, _ in calls.seen] == ["high", "low"]


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_pure_noise_sigma_of_one_stays_finite(solver: str) -> None:
    result = run(linear_grid(8, 5.0), Calls(clean=NOISE.flip(-1)), {"high": 3.0, "low": 2.0}, solver)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("stage", ["high", "low"])
def test_numbers_that_are_not_finite_name_the_stage(stage: str) -> None:
    with pytest.raises(SamplingError, match=rf"the {stage}-noise expert .* step \d+ of 6"):
        run(linear_grid(6, 5.0), Calls(broken=stage), {"high": 1.0, "low": 1.0})


def test_guidance_without_a_negative_prompt_is_refused() -> None:
    grid = linear_grid(2, 1.0)
    with pytest.raises(SamplingError, match="negative prompt"):
        denoise(
            NOISE,
            Schedule.of_grid(grid, None),
            Euler(grid.sigmas),
            Calls(),
            Prompts(POSITIVE, None),
            {"high": 2.0},
            Silent(),
        )


@given(at=st.integers(1, 12))
@settings(deadline=None)
def test_a_stop_is_heard_between_any_two_forwards(at: int) -> None:
    calls = Calls()
    with pytest.raises(Stop):
        run(linear_grid(6, 5.0), calls, {"high": 2.0, "low": 2.0}, progress=StopAt(at))
    assert len(calls.seen) == at - 1


def test_each_step_offers_the_clean_estimate_as_preview() -> None:
    calls, seen = Calls(), []

    class Watch(Silent):
        def advance(self, done: int, preview: object = None) -> None:
            seen.append((done, preview()))  # type: ignore[operator]

    run(linear_grid(3, 5.0), calls, {"high": 1.0, "low": 1.0}, progress=Watch())
    assert [done for done, _ in seen] == [1, 2, 3]
    assert all(torch.allclose(estimate, calls.clean, atol=1e-5) for _, estimate in seen)
