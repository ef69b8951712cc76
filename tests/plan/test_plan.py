"""A plan's numbers agree with each other and with what the check reported."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, Plan, describe, make_plan
from wan_duet.pipelines.request import t2v_request

A14B, TOY = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["toy"]
T2V = [family for family in FAMILIES.values() if "text-to-video" in family.tasks]


def plan(family: Any = A14B, *, solver: str = "unipc", boundary: float | None = None, **values: Any) -> Plan:
    return make_plan(
        t2v_request(prompt="a red ball", **values), family, seed=7, solver=solver, boundary=boundary
    )


def test_default_request_reads_as_one_line() -> None:
    assert describe(plan()) == (
        "high: 12 steps (sigma 1.000-0.879), low: 15 steps, 54 forwards, 81 frames at 16 fps -> 161 at 32 fps"
    )


def test_line_leaves_out_an_empty_stage_and_an_unused_arrow() -> None:
    assert describe(plan(boundary=1.0, num_inference_steps=8, interpolator_model="none")) == (
        "low: 8 steps (sigma 1.000-0.416), 16 forwards, 81 frames at 16 fps"
    )
    assert describe(plan(FAMILIES["wan2.1-t2v-14b"])).startswith(
        "high: 27 steps (sigma 1.000-0.161), 54 forwards"
    )
    assert describe(plan(num_inference_steps=2, boundary=0.9)).startswith(
        "high: 1 step (sigma 1.000-1.000), low: 1 step,"
    )


@pytest.mark.parametrize(
    ("num_frames", "generated", "latent_frames"), [(81, 81, 21), (82, 85, 22), (84, 85, 22), (17, 17, 5)]
)
def test_frames_are_generated_in_fours_and_delivered_as_asked(
    num_frames: int, generated: int, latent_frames: int
) -> None:
    made = plan(num_frames=num_frames)
    assert (made.frames_generated, made.frames_delivered) == (generated, num_frames)
    assert made.latent_shape == (16, latent_frames, 90, 160)


# reference: frames n, rate f, interpolated k, adjust -> frames and rate of the file
@pytest.mark.parametrize(
    ("n", "f", "k", "adjust", "frames", "fps"),
    [
        (81, 16, 0, True, 81, 16),
        (81, 16, 1, True, 161, 32),
        (81, 16, 4, True, 401, 80),
        (81, 16, 4, False, 401, 16),
        (121, 60, 4, True, 601, 300),
    ],
)
def test_interpolation_multiplies_frames_and_rate(
    n: int, f: int, k: int, adjust: bool, frames: int, fps: int
) -> None:
    made = plan(
        num_frames=n, frames_per_second=f, num_interpolated_frames=k, adjust_fps_for_interpolation=adjust
    )
    assert (made.frames_out, made.fps_out) == (frames, Fraction(fps))


def test_no_interpolator_leaves_frames_and_rate() -> None:
    made = plan(interpolator_model="none", num_interpolated_frames=4)
    assert (made.interpolator, made.num_interpolated_frames, made.frames_out, made.fps_out) == (
        "none",
        0,
        81,
        16,
    )


@pytest.mark.parametrize("family", T2V, ids=lambda family: family.name)
@pytest.mark.parametrize("aspect_ratio", ["16:9", "9:16", "1:1"])
@pytest.mark.parametrize("resolution", ["480p", "580p", "720p"])
def test_sizes_fit_the_model(family: Any, resolution: str, aspect_ratio: str) -> None:
    made = plan(family, resolution=resolution, aspect_ratio=aspect_ratio)
    assert made.width % family.size_multiple == 0
    assert made.height % family.size_multiple == 0
    wide = {
        "16:9": made.width > made.height,
        "9:16": made.width < made.height,
        "1:1": made.width == made.height,
    }
    assert wide[aspect_ratio]
    assert made.latent_shape[2:] == (made.height // family.vae_stride[1], made.width // family.vae_stride[2])


def test_toy_draws_its_own_size_and_length() -> None:
    made = plan(TOY)
    assert (made.width, made.height, made.frames_delivered, made.latent_shape) == (
        112,
        64,
        17,
        (16, 5, 8, 14),
    )


def test_stage_without_guidance_makes_no_second_forward() -> None:
    assert plan(guidance_scale=1).forwards == 12 + 2 * 15
    assert plan(guidance_scale_2=1).forwards == 2 * 12 + 15
    assert plan(guidance_scale=1, guidance_scale_2=1).forwards == 27


def test_boundary_can_be_moved() -> None:
    assert plan(boundary=0.9).experts.count("high") == 10
    assert set(plan(boundary=0.0).experts) == {"high"}


@pytest.mark.parametrize("boundary", [-0.1, 1.1, float("nan")])
def test_boundary_outside_the_noise_range_is_refused(boundary: float) -> None:
    with pytest.raises(RequestError, match="boundary"):
        plan(boundary=boundary)


def test_one_expert_has_no_boundary_to_move() -> None:
    with pytest.raises(RequestError, match="boundary"):
        plan(FAMILIES["wan2.1-t2v-14b"], boundary=0.9)


def test_lightning_takes_four_steps_and_walks_with_euler() -> None:
    made = plan(solver="lightning", num_inference_steps=4)
    assert (made.grid, made.solver, made.experts) == ("lightning", "euler", ("high", "high", "low", "low"))
    with pytest.raises(RequestError, match="num_inference_steps"):
        plan(solver="lightning")


def test_unknown_solver_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="solver"):
        plan(solver="heun")


def test_what_the_check_calls_impossible_is_not_planned() -> None:
    with pytest.raises(RequestError) as caught:
        plan(interpolator_model="rife", enable_prompt_expansion=True)
    assert {problem.field for problem in caught.value.problems} == {
        "interpolator_model",
        "enable_prompt_expansion",
    }


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_outside_the_generator_is_refused(seed: int) -> None:
    with pytest.raises(RequestError, match="seed"):
        make_plan(t2v_request(prompt="a"), A14B, seed)


def test_plan_of_another_version_is_refused() -> None:
    with pytest.raises(RequestError, match="plan: missing or unknown keys: colour, seed"):
        Plan.from_dict({**{k: v for k, v in plan().as_dict().items() if k != "seed"}, "colour": "red"})


def test_planning_loads_neither_torch_nor_diffusers() -> None:
    code = "import sys, wan_duet.pipelines.plan; print(sorted({'torch', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
