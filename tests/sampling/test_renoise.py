"""rCM and FastWan add new noise at each step: against the arithmetic of TurboDiffusion in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.generate.stages import _noise_beside
from wan_duet.pipelines.plan.sigmas import GRIDS, rcm_grid
from wan_duet.pipelines.sampling.noise import initial_noise, noise_sampler
from wan_duet.pipelines.sampling.solvers import new_solver

SHAPE = (1, 2, 3, 4, 4)


def velocity(latents: Tensor, level: float) -> Tensor:
    """Return what a network would: anything that depends on latents and level."""
    return torch.sin(3 * latents) + level * latents.flip(2)


def noises(seed: int) -> Iterator[Tensor]:
    """Yield the noise of a run: that of its start, then that of each step."""
    generator = torch.Generator("cpu").manual_seed(seed)
    while True:
        yield torch.randn(SHAPE, generator=generator).double()


def reference(steps: int, sigma_max: float, seed: int) -> Tensor:
    """Sample as wan2.1_t2v_infer.py does, in float64."""
    angles = [math.atan(sigma_max), *(1.5, 1.4, 1.0)[: steps - 1], 0.0]
    times = [math.sin(angle) / (math.cos(angle) + math.sin(angle)) for angle in angles]
    drawn = noises(seed)
    latents = next(drawn) * times[0]
    for now, after in pairwise(times):
        clean = latents - now * velocity(latents, now)
        latents = (1 - after) * clean + after * next(drawn)
    return latents


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("sigma_max", [80.0, 200.0])
def test_rcm_walks_like_turbodiffusion(steps: int, sigma_max: float) -> None:
    grid, seed = rcm_grid(steps, sigma_max), 7
    solver = new_solver(GRIDS["rcm"][1], grid.sigmas, noise_sampler(SHAPE, seed))
    latents = grid.sigmas[0] * initial_noise(SHAPE, seed)
    for index, timestep in enumerate(grid.timesteps):
        latents = solver.step(index, latents, velocity(latents, timestep / 1000))
    torch.testing.assert_close(latents.double(), reference(steps, sigma_max, seed), rtol=2e-6, atol=2e-6)


def test_frames_that_are_given_get_no_noise() -> None:
    grid, given = rcm_grid(), torch.tensor([True, False, False]).view(1, 1, -1, 1, 1)
    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    draw = partial(_noise_beside, noise_sampler(SHAPE, 0), start, given)
    solver, latents = new_solver("dmd", grid.sigmas, draw), start
    for index in range(len(grid.timesteps)):
        latents = solver.step(index, latents, torch.where(given, 0.0, velocity(latents, 0.5)))
    torch.testing.assert_close(latents[:, :, 0], start[:, :, 0])
    assert not torch.allclose(latents[:, :, 1:], start[:, :, 1:], atol=0.1)
