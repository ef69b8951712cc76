"""Sigma grids equal the official code bit for bit; experts and start steps follow from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import GRIDS
from wan_duet.pipelines.plan.sigmas import (
    dmd_grid,
    from_sigmas,
    lightning_grid,
    linear_grid,
    split,
    start_step,
    unipc_grid,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sigma_grids.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "golden", GOLDEN["grids"], ids=lambda golden: f"{golden['grid']}-{golden['steps']}-{golden['shift']}"
)
def test_grid_equals_the_official_code_bit_for_bit(golden: dict[str, Any]) -> None:
    make_grid, _ = GRIDS[golden["grid"]]
    grid = make_grid(golden["steps"], golden["shift"])
    assert list(grid.sigmas) == golden["sigmas"]
    assert list(grid.timesteps) == golden["timesteps"]


def test_lightning_is_four_fixed_steps_with_exact_timesteps() -> None:
    grid = lightning_grid()
    assert grid.sigmas == pytest.approx((1, 0.9375, 5 / 6, 0.625, 0), abs=1e-7)
    assert grid.timesteps == pytest.approx((1000, 937.5, 5000 / 6, 625), abs=1e-4)
    assert split(grid, 0.875) == 2


@pytest.mark.parametrize("shift", [5.0, 8.0])
def test_dmd_takes_the_noise_levels_nearest_to_its_three_steps(shift: float) -> None:
    grid = dmd_grid(shift)
    assert grid.timesteps == (1000, 757, 522)
    assert grid.sigmas == pytest.approx((1, 0.757, 0.522, 0), abs=1e-3)


def test_euler_timesteps_are_not_truncated() -> None:
    grid = linear_grid(27, 5.0)
    assert grid.timesteps == tuple(1000 * sigma for sigma in grid.sigmas[:-1])
    assert any(timestep % 1 for timestep in grid.timesteps)


@pytest.mark.parametrize(
    ("steps", "shift", "boundary", "high"),
    [(27, 5.0, 0.875, 12), (27, 5.0, 0.9, 10), (27, 2.0, 0.875, 6), (27, 5.0, None, 27), (27, 5.0, 1.0, 0)],
)
def test_split_gives_the_first_low_step(steps: int, shift: float, boundary: float | None, high: int) -> None:
    assert split(unipc_grid(steps, shift), boundary) == high


def test_step_on_the_boundary_is_still_high() -> None:
    assert split(from_sigmas([1.0, 0.875, 0.5, 0.0]), 0.875) == 2


@pytest.mark.parametrize(("strength", "start"), [(1.0, 0), (0.9, 3), (0.5, 14), (0.0, 27)])
def test_start_step_leaves_the_share_of_the_strength(strength: float, start: int) -> None:
    assert start_step(27, strength) == start


def test_other_people_s_sigmas_may_end_above_zero() -> None:
    grid = from_sigmas([1.0, 0.9, 0.8])
    assert len(grid.timesteps) == 2
    assert grid.sigmas[-1] == pytest.approx(0.8)


@pytest.mark.parametrize(
    "sigmas", [[], [1.0], [0.5, 0.5], [0.2, 0.8], [14.6, 0.0], [1.0, -0.1], [1.0, float("nan")]]
)
def test_sigmas_that_do_not_fall_within_one_to_zero_are_refused(sigmas: list[float]) -> None:
    with pytest.raises(RequestError, match="sigmas"):
        from_sigmas(sigmas)
