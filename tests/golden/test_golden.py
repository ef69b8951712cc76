"""Our sampling equals the official Wan 2.2 code and ComfyUI's native two-stage sampling on equal tiny
weights.

The fixtures are made by the two make_*.py files beside this one; each says how.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import UniPCMultistepScheduler
from experts import resident
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.plan.sigmas import GRIDS, SigmaGrid, from_sigmas, unipc_grid
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.solvers import SOLVERS
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.vae.latent_space import denormalise
from wan_duet.pipelines.weights.folder import read_component

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return load_file(HERE / "official.safetensors")


@pytest.fixture(scope="module")
def comfyui() -> dict[str, Tensor]:
    return load_file(HERE / "comfyui.safetensors")


@pytest.fixture
def experts(tmp_path: Path) -> Iterator[Executor]:
    recipes = {}
    for name in ("high", "low"):
        folder = tmp_path / name
        folder.mkdir()
        weights = tiny.to_diffusers(tiny.expert_weights(tiny.SEEDS[name]))
        save_file(weights, folder / "diffusion_pytorch_model.safetensors")
        (folder / "config.json").write_text(json.dumps(tiny.DIFFUSERS_CONFIG))
        recipes[name] = read_component(folder)
    with (
        torch.inference_mode(),
        Executor(
            recipes, torch.float32, DeviceMemory("cpu"), lambda: None, residency=resident(recipes)
        ) as pair,
    ):
        yield pair


def padded(name: str) -> Condition:
    text = tiny.text(name)
    return Condition(torch.nn.functional.pad(text, (0, 0, 0, 512 - text.shape[1])))


def two_stage(experts: Executor, grid: SigmaGrid, solver: str) -> Tensor:
    return denoise(
        tiny.noise(),
        Schedule.of_grid(grid, tiny.BOUNDARY),
        SOLVERS[solver](grid.sigmas),
        experts,
        Prompts(padded("positive"), padded("negative")),
        tiny.GUIDANCE,
        Silent(),
    )


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def test_sigma_grid_equals_the_official_one_bit_for_bit(official: dict[str, Tensor]) -> None:
    grid = unipc_grid(tiny.STEPS, tiny.SHIFT)
    assert torch.equal(torch.tensor(grid.sigmas), official["sigmas"])
    assert [int(t) for t in grid.timesteps] == official["timesteps"].tolist()


def test_one_forward_equals_the_official_one(experts: Executor, official: dict[str, Tensor]) -> None:
    timestep = unipc_grid(tiny.STEPS, tiny.SHIFT).timesteps[1]
    ours = experts.use("high").predict(tiny.noise(), timestep, padded("positive"))
    assert relative_l2(ours, official["forward"]) <= 1e-5


def test_two_stage_unipc_equals_the_official_code(experts: Executor, official: dict[str, Tensor]) -> None:
    ours = two_stage(experts, unipc_grid(tiny.STEPS, tiny.SHIFT), "unipc")
    assert relative_l2(ours, official["two_stage"]) <= 1e-5


def test_two_stage_euler_equals_comfyui(experts: Executor, comfyui: dict[str, Tensor]) -> None:
    ours = two_stage(experts, from_sigmas(comfyui["sigmas"].tolist()), "euler")
    assert relative_l2(denormalise(ours, load_model("toy").vae), comfyui["two_stage"]) <= 1e-5


def walk(solver: str, grid: SigmaGrid) -> Tensor:
    latents, walker = tiny.noise()[:, :2, :1, :4, :4], SOLVERS[solver](grid.sigmas)
    for index, timestep in enumerate(grid.timesteps):
        latents = walker.step(index, latents, tiny.velocity(latents, timestep))
    return latents


@pytest.mark.parametrize(("solver", "steps", "shift"), tiny.TRAJECTORIES)
def test_solver_walks_like_the_official_one(
    solver: str, steps: int, shift: float, official: dict[str, Tensor]
) -> None:
    ours = walk(solver, GRIDS[solver][0](steps, shift))
    theirs = official[tiny.trajectory_name(solver, steps, shift)]
    # The same operations in the same order: bit for bit where the fixtures were made. Another processor's exp
    # and log may end in another bit.
    assert relative_l2(ours, theirs) <= 1e-6


@pytest.mark.parametrize(("steps", "shift"), [(4, 5.0), (12, 3.0), (27, 8.0)])
def test_unipc_has_the_bits_of_the_installed_diffusers_solver(steps: int, shift: float) -> None:
    grid = unipc_grid(steps, shift)
    theirs = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    theirs.set_timesteps(steps)
    theirs.sigmas, theirs.timesteps = torch.tensor(grid.sigmas), torch.tensor(grid.timesteps)
    latents = tiny.noise()[:, :2, :1, :4, :4]
    for timestep in theirs.timesteps:
        latents = theirs.step(tiny.velocity(latents, float(timestep)), timestep, latents).prev_sample
    assert torch.equal(walk("unipc", grid), latents)
