"""A plan's numbers agree with each other and with what the check reported."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
from plans import plan_of

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, Plan, default_family, describe, make_plan
from wan_duet.pipelines.request import KINDS, LOCAL_KINDS, MediaFacts, check, parse, t2v_request

A14B, TOY = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["toy"]
T2V = [family for family in FAMILIES.values() if "text-to-video" in family.tasks]


def plan(family: Any = A14B, *, solver: str = "unipc", boundary: float | None = None, **values: Any) -> Plan:
    return plan_of(t2v_request(prompt="a red ball", **values), family, 7, solver=solver, boundary=boundary)


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
    with pytest.raises(RequestError, match="steps"):
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
        plan_of(t2v_request(prompt="a"), A14B, seed)


def test_plan_of_another_version_is_refused() -> None:
    with pytest.raises(RequestError, match="plan: missing or unknown keys: colour, seed"):
        Plan.from_dict({**{k: v for k, v in plan().as_dict().items() if k != "seed"}, "colour": "red"})


def test_planning_loads_neither_torch_nor_diffusers() -> None:
    code = "import sys, wan_duet.pipelines.plan; print(sorted({'torch', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


MEDIA = {
    "image_url": "a.png",
    "video_url": "a.mp4",
    "audio_url": "a.wav",
    "width": 832,
    "height": 480,
    "seed": 7,
}


def any_plan(kind: str, **values: Any) -> Plan:
    cls = KINDS[kind]
    needed = {name: value for name, value in MEDIA.items() if name in cls.model_fields}
    request = parse(kind, {"prompt": "a", **needed, **values})
    return plan_of(request, default_family(cls.task), 7, (1920, 1080))


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("image-to-video", "high: 10 steps (sigma 1.000-0.909), low: 17 steps, 54 forwards, 81 frames"),
        (
            "text-to-image",
            "high: 6 steps (sigma 0.999-0.897), low: 21 steps, 54 forwards, 1 png of 1024x1024",
        ),
        ("text-to-image-lora", "1 jpeg of 1024x1024"),
        ("image-to-image", "low: 13 steps (sigma 0.650-0.071), 26 forwards, 1 jpeg of 1280x720"),
        ("video-to-video", "high: 9 steps (sigma 0.975-0.879), low: 15 steps, 48 forwards, 81 frames"),
        ("text-to-video-turbo", "high: 2 steps (sigma 1.000-0.938), low: 2 steps, 4 forwards, 81 frames"),
        ("image-to-video-turbo", "high: 2 steps (sigma 1.000-0.938), low: 2 steps, 4 forwards, 81 frames"),
        ("speech-to-video", "27 steps (sigma 1.000-0.161), 54 forwards, 80 frames at 16 fps"),
        ("small-text-to-video", "40 steps (sigma 1.000-0.114), 80 forwards, 81 frames at 24 fps"),
        ("small-text-to-image", "80 forwards, 1 jpeg of 1024x1024"),
        ("small-distill", "40 steps (sigma 1.000-0.114), 40 forwards, 81 frames at 24 fps"),
        ("small-fast-video", "3 steps (sigma 1.000-0.522), 3 forwards, 81 frames at 24 fps"),
        ("legacy-text-to-video", "high: 13 steps (sigma 1.000-0.882), low: 17 steps, 60 forwards, 81 frames"),
        ("wan21-text-to-video", "30 steps (sigma 1.000-0.147), 60 forwards, 81 frames at 16 fps"),
    ],
)
def test_every_kind_has_a_plan(kind: str, line: str) -> None:
    assert line in describe(any_plan(kind))


@pytest.mark.parametrize(
    ("strength", "running"), [(1.0, {"high", "low"}), (0.9, {"high", "low"}), (0.5, {"low"}), (0.0, set())]
)
def test_strength_decides_which_experts_run(strength: float, running: set[str]) -> None:
    made = any_plan("video-to-video", strength=strength)
    assert set(made.experts[made.start_step :]) == running
    assert made.forwards == 2 * int(27 * strength)


def test_speech_generates_one_frame_more_for_its_image() -> None:
    made = any_plan("speech-to-video", num_frames=120)
    assert (made.frames_generated, made.frames_delivered, made.latent_shape[1]) == (121, 120, 31)


def test_an_image_has_the_rate_of_its_model() -> None:
    assert (any_plan("text-to-image").fps_out, any_plan("small-text-to-image").fps_out) == (16, 24)


def test_unset_interpolation_of_the_5b_model_adds_nothing() -> None:
    assert any_plan("small-text-to-video").frames_out == 81
    assert any_plan("small-text-to-video", num_interpolated_frames=1).fps_out == 48


# reference: tokens and hidden state of a 14B expert, and of the 5B model
@pytest.mark.parametrize(
    ("kind", "values", "tokens", "gigabytes"),
    [
        ("text-to-video", {"resolution": "480p"}, 32760, 0.335),
        ("text-to-video", {"num_frames": 161}, 147600, 1.511),
        ("small-text-to-video", {"num_frames": 121}, 27280, 0.168),
    ],
)
def test_sizes_in_memory_follow_the_shape(
    kind: str, values: dict[str, Any], tokens: int, gigabytes: float
) -> None:
    made = any_plan(kind, **values)
    assert made.tokens == tokens
    assert made.size_bytes["hidden_state"] / 1e9 == pytest.approx(gigabytes, abs=6e-4)
    channels, frames, rows, columns = made.latent_shape
    assert made.size_bytes["latents"] == 4 * channels * frames * rows * columns


def test_time_is_only_told_at_a_known_rate() -> None:
    made = plan()
    assert made.expected_seconds(9.5) == 54 * 9.5
    assert "54 forwards (about 513 s), 81 frames" in describe(made, seconds_per_forward=9.5)
    assert " s)" not in describe(made)


@pytest.mark.parametrize("kind", ["text-to-video-turbo", "small-fast-video"])
def test_distilled_weights_walk_their_own_grid(kind: str) -> None:
    request = parse(kind, {"prompt": "a"})
    with pytest.raises(RequestError, match="solver"):
        plan_of(request, default_family(request.task), solver="unipc")


def test_a_plan_is_for_the_family_that_its_request_was_resolved_for() -> None:
    resolved = check(t2v_request(prompt="a"), family=A14B).require()
    with pytest.raises(ValueError, match=r"resolved for wan2\.2-t2v-a14b, and the plan is for toy"):
        make_plan(resolved, TOY, 0)


def test_size_of_the_input_has_to_be_one() -> None:
    with pytest.raises(RequestError, match="media_size"):
        MediaFacts(size=(0, 480))


@pytest.mark.parametrize(
    ("seconds", "max_seconds", "frames", "clips"),
    [(5.0, None, 80, 1), (5.1, None, 82, 2), (12.0, 7.5, 120, 2), (0.04, None, 1, 1), (5.0, 0.001, 1, 1)],
)
def test_clips_of_speech_follow_each_other_until_the_sound_or_the_limit_ends(
    seconds: float, max_seconds: float | None, frames: int, clips: int
) -> None:
    family = default_family("speech-to-video")
    request = parse("speech-to-video", {"prompt": "a", "image_url": "a.png", "audio_url": "a.wav"})
    heard = MediaFacts(size=(64, 64), seconds=seconds)
    made = make_plan(check(request, family=family, media=heard).require(), family, 7, max_seconds=max_seconds)
    assert (made.frames_delivered, made.frames_out, made.frames_generated) == (frames, frames, 80 * clips)
    assert (made.latent_shape[1], made.forwards) == (20, 54 * clips)


@pytest.mark.parametrize("kind", LOCAL_KINDS)
def test_every_task_has_a_family_made_for_it(kind: str) -> None:
    assert KINDS[kind].task in default_family(KINDS[kind].task).tasks


def test_a_task_without_a_family_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="text-to-music"):
        default_family("text-to-music")
