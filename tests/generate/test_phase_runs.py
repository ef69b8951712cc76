"""Runs in phases: equal to their parts run one after another, and repeated from the receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from experts import resident

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.stages import encode_prompts
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.plan.plan import Plan
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.sampling.engine import Condition, Prompts
from wan_duet.pipelines.sampling.loop import denoise
from wan_duet.pipelines.sampling.noise import initial_noise
from wan_duet.pipelines.sampling.schedule import Schedule
from wan_duet.pipelines.sampling.solvers import new_solver
from wan_duet.pipelines.streaming.executor import Executor
from wan_duet.pipelines.vae.latent_space import denormalise
from wan_duet.pipelines.video.output import sidecar

from .toy_runs import Make, latents

FEW = {
    "prompt": "a ball moving right", "num_frames": 5, "seed": 7, "aspect_ratio": "1:1",
    "interpolator_model": "none",
}  # fmt: skip
LORA = embedded_loras()["toy/outlined"]
THREE_STAGES = {
    "solver": "euler",
    "phases": [
        {"expert": "high", "steps": 1, "guidance": 3.5},
        {"expert": "high", "steps": 2, "guidance": 1, "loras": [{"path": "toy/outlined", "scale": 0.7}]},
        {"expert": "low", "steps": 1, "guidance": 1, "loras": [{"path": "toy/outlined"}]},
    ],
}


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


def one_by_one(model: WanModel, plan: Plan, parts: list[tuple[WanModel, str, range, float]]) -> torch.Tensor:
    """Run each part by itself, with its own model, solver and executor, from the latents before it."""
    memory = DeviceMemory("cpu")
    positive, negative = encode_prompts(model, [FEW["prompt"], ""], memory, Silent())
    prompts = Prompts(Condition(positive.embeddings), Condition(negative.embeddings))
    current = initial_noise((1, *plan.latent_shape), plan.seed)
    with torch.inference_mode():
        for of, expert, steps, scale in parts:
            sigmas = plan.sigmas[steps.start : steps.stop + 1]
            timesteps = plan.timesteps[steps.start : steps.stop]
            schedule = Schedule(sigmas, timesteps, (expert,) * len(steps))
            recipes = of.experts_on(memory.device)
            with Executor(
                recipes, torch.float32, memory, lambda: None, residency=resident(recipes)
            ) as executor:
                solver = new_solver("euler", sigmas)
                current = denoise(current, schedule, solver, executor, prompts, {expert: scale}, Silent())
    return denormalise(current, model.vae)


def test_phases_with_loras_equal_their_parts_run_one_after_another(make: Make, toy: WanModel) -> None:
    from wan_duet.pipelines.generate.local_receipt import latents_hash

    private = json.loads(json.dumps(THREE_STAGES).replace("toy/outlined", str(LORA)))
    made = make(private)
    assert str(LORA.parent) not in json.dumps(made.receipt)
    plan = read_receipt(sidecar(made.path)).plan
    high, low = toy.with_lora(LORA, 0.7, "high"), toy.with_lora(LORA, 1.0, "low")
    parts = [(toy, "high", range(1), 3.5), (high, "high", range(1, 3), 1.0), (low, "low", range(3, 4), 1.0)]
    assert latents(made) == latents_hash(one_by_one(toy, plan, parts))
    without = [(toy, expert, steps, scale) for _, expert, steps, scale in parts]
    assert latents(made) != latents_hash(one_by_one(toy, plan, without))


def test_two_scales_as_phases_give_the_same_bits(make: Make) -> None:
    plain = make(num_inference_steps=3)
    assert latents(make({"phases": "3.5, 4"}, num_inference_steps=3)) == latents(plain)


def test_guidance_of_each_step_equals_phases_of_one_step(make: Make) -> None:
    listed = make({"guidance": [3.5, 1.0, 2.0], "high_steps": 2})
    phases = make({"phases": "high 1: 3.5, high 1: 1, low 1: 2"})
    assert latents(listed) == latents(phases)
    assert listed.receipt["plan"]["forwards"] == 5


def test_strengths_over_the_steps_of_a_stage_equal_phases(make: Make) -> None:
    moving = [{"path": "toy/outlined", "high": "0:0, 1:0.5", "low": 0}]
    over_steps = make({"loras_per_stage": moving, "high_steps": 2}, num_inference_steps=3)
    phases: list[dict[str, Any]] = [
        {"expert": "high", "steps": 1},
        {"expert": "high", "steps": 1, "loras": [{"path": "toy/outlined", "scale": 0.5}]},
        {"expert": "low", "steps": 1},
    ]
    assert latents(over_steps) == latents(make({"phases": phases}))


def test_a_lora_of_the_request_acts_in_every_phase(make: Make, toy: WanModel) -> None:
    phases = [{"steps": 1, "loras": [{"path": "toy/outlined", "scale": 0.3}]}, {"steps": 1}]
    asked = {"path": "toy/outlined", "scale": 0.7, "transformer": "high"}
    both = toy.with_lora(LORA, 0.7, "high").with_lora(LORA, 0.3, "high")
    made = make({"phases": phases}, loras=[asked])
    assert latents(made) == latents(make({"high_steps": 1}, model=both, num_inference_steps=2))


def test_phases_are_in_the_receipt_and_repeat_to_the_same_bits(
    make: Make, toy: WanModel, tmp_path: Path
) -> None:
    made = make(THREE_STAGES)
    receipt = made.receipt
    assert receipt["plan"]["phases"] == [
        {"expert": "high", "steps": 1, "guidance": 3.5, "strengths": [0.0]},
        {"expert": "high", "steps": 2, "guidance": 1.0, "strengths": [0.7]},
        {"expert": "low", "steps": 1, "guidance": 1.0, "strengths": [1.0]},
    ]
    assert [(one["expert"], one["strength"]) for one in receipt["model"]["loras"]] == [
        ("high", 0.7), ("low", 1.0)
    ]  # fmt: skip
    assert f"loras[0]/{LORA.name}" in receipt["model"]["files"]
    out = tmp_path / "again.mp4"
    again = repeat(
        read_receipt(sidecar(made.path)), toy, out=out, memory=DeviceMemory("cpu"), progress=Silent()
    )
    assert latents(again) == latents(made)


def test_the_cost_of_a_change_counts_borders_within_an_expert_and_weights_with_the_lora(
    toy: WanModel,
) -> None:
    from wan_duet.pipelines.generate.phase_cost import measure_phase_cost
    from wan_duet.pipelines.generate.phase_loras import with_phase_loras
    from wan_duet.pipelines.plan import make_plan
    from wan_duet.pipelines.request import check, t2v_request
    from wan_duet.pipelines.weights.lora.find import LoraSources

    def cost(local: dict[str, Any]) -> Any:
        request = t2v_request(**FEW, local=local)
        plan = make_plan(check(request, family=toy.family).require(), toy.family, 1)
        sources = LoraSources(embedded=embedded_loras())
        model = with_phase_loras(toy, request.local, plan, sources, Silent())
        return measure_phase_cost(model, plan, DeviceMemory("cpu"))

    found = cost(THREE_STAGES)
    report = toy.with_lora(LORA, 0.7, "high").loras[-1]
    assert (found.changes, found.tensors) == (1, report.coverage.tensors)
    assert found.seconds > 0
    assert "change once within an expert" in found.text()
    assert cost({"phases": "high 1: 3.5, high 1: 1, low 1: 1"}) is None
