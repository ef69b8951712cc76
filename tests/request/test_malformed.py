"""Requests that must be refused, each naming the field at fault."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import KINDS, field_table, parse, t2v_request

PLAIN, LORA = "text-to-video", "text-to-video-lora"
NEEDED = {
    "image_url": "a.png",
    "video_url": "a.mp4",
    "audio_url": "a.wav",
    "video_urls": ["a.mp4"],
    "width": 832,
    "height": 480,
    "seed": 7,
}

WRONG_VALUES: list[tuple[str, str, object]] = [
    (PLAIN, "prompt", ""),
    (PLAIN, "prompt", " \t\n"),
    (PLAIN, "prompt", None),
    (PLAIN, "prompt", 7),
    (PLAIN, "prompt", ["a red ball"]),
    (PLAIN, "prompt", "half \ud800"),
    (PLAIN, "negative_prompt", None),
    (PLAIN, "num_frames", "81"),
    (PLAIN, "num_frames", 81.0),
    (PLAIN, "num_frames", True),
    (PLAIN, "num_frames", None),
    (PLAIN, "num_frames", 0),
    (PLAIN, "num_frames", 10**400),
    (PLAIN, "frames_per_second", 0),
    (PLAIN, "aspect_ratio", "4/3"),
    (PLAIN, "aspect_ratio", "0:3"),
    (PLAIN, "aspect_ratio", "2.39:0.0"),
    (PLAIN, "aspect_ratio", "2.39"),
    (PLAIN, "aspect_ratio", ".5:1"),
    (PLAIN, "aspect_ratio", "2,39:1"),
    (PLAIN, "aspect_ratio", "16:9\n"),
    (PLAIN, "aspect_ratio", "auto"),
    (PLAIN, "num_inference_steps", 0),
    (PLAIN, "guidance_scale", -0.1),
    (PLAIN, "shift", 0),
    (PLAIN, "num_interpolated_frames", -1),
    (PLAIN, "seed", -1),
    (PLAIN, "seed", 2**64),
    (PLAIN, "seed", "random"),
    (PLAIN, "resolution", "1080p"),
    (PLAIN, "resolution", 720),
    (PLAIN, "enable_safety_checker", "yes"),
    (PLAIN, "enable_prompt_expansion", 1),
    (PLAIN, "acceleration", "high"),
    (PLAIN, "guidance_scale", float("nan")),
    (PLAIN, "guidance_scale_2", float("inf")),
    (PLAIN, "guidance_scale_2", False),
    (PLAIN, "interpolator_model", "flow"),
    (PLAIN, "adjust_fps_for_interpolation", "true"),
    (PLAIN, "video_quality", "best"),
    (PLAIN, "video_write_mode", ""),
    (PLAIN, "num_frame", 81),
    (LORA, "loras", "style.safetensors"),
    (LORA, "loras", {"path": "style.safetensors"}),
    (LORA, "reverse_video", 1),
]

WRONG_LORAS: list[tuple[str, object]] = [
    ("loras[0]", "style.safetensors"),
    ("loras[0].path", {}),
    ("loras[0].path", {"path": ""}),
    ("loras[0].path", {"path": 3}),
    ("loras[0].path", {"path": "half \ud800"}),
    ("loras[0].scale", {"path": "a", "scale": float("-inf")}),
    ("loras[0].scale", {"path": "a", "scale": "1"}),
    ("loras[0].transformer", {"path": "a", "transformer": "hihg"}),
    ("loras[0].strength", {"path": "a", "strength": 1}),
]

WRONG_ELSEWHERE: list[tuple[str, str, object]] = [
    ("image-to-video", "image_url", ""),
    ("image-to-video", "image_url", None),
    ("image-to-video", "end_image_url", " "),
    ("video-to-video", "strength", 1.01),
    ("video-to-video", "resample_fps", "yes"),
    ("image-to-image", "strength", -0.1),
    ("text-to-image", "image_size", "huge"),
    ("text-to-image", "image_size", None),
    ("text-to-image", "image_size", 512),
    ("text-to-image", "image_size.width", {"width": 0}),
    ("text-to-image", "image_size.height", {"height": 512.0}),
    ("text-to-image", "image_size.height", {"height": 10**400}),
    ("text-to-image", "image_size.depth", {"depth": 3}),
    ("text-to-image", "image_format", "png"),
    ("text-to-image-lora", "image_format", "webp"),
    ("text-to-video-turbo", "num_frames", 81),
    ("small-text-to-video", "resolution", "480p"),
    ("small-distill", "negative_prompt", "blur"),
    ("legacy-text-to-video", "num_inference_steps", 0),
    ("legacy-text-to-video", "guidance_scale", 10**400),
    ("wan21-text-to-video", "width", 0),
    ("wan21-text-to-video", "seed", -2),
    ("wan21-text-to-video", "steps", 0),
    ("legacy-text-to-video-lora", "loras[0].transformer", [{"path": "a", "transformer": "high"}]),
    ("wan21-text-to-video", "model_name", "wan2.2-t2v"),
    ("wan21-text-to-video", "loras[0].scale", [{"path": "a/b"}]),
    ("wan21-text-to-video", "extra.webhook.url", {"webhook": {}}),
    (
        "wan21-text-to-video",
        "extra.webhook.test_mode.return_task_status",
        {"webhook": {"url": "https://a.b", "test_mode": {"enabled": True, "return_task_status": "DONE"}}},
    ),
]

WRONG_JSON: list[str | bytes] = [
    "",
    "{",
    '{"prompt": "a",}',
    "[]",
    '"a red ball"',
    "null",
    '{"prompt": "a", "shift": NaN}',
    '{"prompt": "a", "shift": -Infinity}',
    '{"prompt": "a", "prompt": "b"}',
    "[" * 100_000,
    b"\xff\xfe\xfd",
    '{"seed": ' + "9" * 5000 + "}",
]


def refusal(kind: str, data: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(kind, data)
    for problem in caught.value.problems:
        assert all((problem.field, problem.found, problem.fix))
        assert len(str(problem)) < 500
    return caught.value


@pytest.mark.parametrize(("kind", "field", "value"), WRONG_VALUES)
def test_wrong_value_names_its_field(kind: str, field: str, value: object) -> None:
    error = refusal(kind, {"prompt": "a red ball", field: value})
    assert [problem.field for problem in error.problems] == [field]


@pytest.mark.parametrize(("field", "lora"), WRONG_LORAS)
def test_wrong_lora_names_its_place(field: str, lora: object) -> None:
    error = refusal(LORA, {"prompt": "a", "loras": [lora]})
    assert [problem.field for problem in error.problems] == [field]


@pytest.mark.parametrize("text", WRONG_JSON, ids=lambda text: repr(text[:30]))
def test_wrong_json_is_one_problem_of_the_request(text: str | bytes) -> None:
    assert [problem.field for problem in refusal(PLAIN, text).problems] == ["request"]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_missing_is_named(kind: str) -> None:
    if not any(row.required for row in field_table(kind)):
        assert parse(kind, {}).kind == kind
        return
    problems = {problem.field: problem.found for problem in refusal(kind, {}).problems}
    assert problems == {row.name: "missing" for row in field_table(kind) if row.required}


@pytest.mark.parametrize(("kind", "field", "value"), WRONG_ELSEWHERE)
def test_wrong_value_of_another_kind_names_its_field(kind: str, field: str, value: object) -> None:
    needed = {row.name: NEEDED.get(row.name, "a") for row in field_table(kind) if row.required}
    name = field.split(".")[0].split("[")[0]
    error = refusal(kind, {**needed, name: value})
    assert [problem.field for problem in error.problems] == [field]


def test_the_fix_of_an_object_shows_one() -> None:
    assert 'or {"width": 512, "height": 512}' in str(
        refusal("text-to-image", {"prompt": "a", "image_size": 1})
    )
    novita = {"prompt": "a", "seed": 1, "width": 832, "height": 480, "loras": 1}
    assert 'objects such as {"path": "FILE", "scale": 1.0}' in str(refusal("wan21-text-to-video", novita))


def test_the_fix_of_a_medium_says_how_it_can_come() -> None:
    assert "connect audio" in str(refusal("speech-to-video", {"prompt": "a", "image_url": "b"}))


def test_every_bad_field_is_named_at_once() -> None:
    error = refusal(PLAIN, '{"prompt": " ", "num_frames": 0, "resolution": "720"}')
    assert {problem.field for problem in error.problems} == {"prompt", "num_frames", "resolution"}


def test_the_fix_says_what_would_work() -> None:
    error = str(refusal(PLAIN, {"prompt": "a", "num_frames": 0, "shift": 0, "resolution": "720"}))
    assert "num_frames: got 0 (whole number); give a whole number from 1 to 100000" in error
    assert "shift: got 0 (whole number); give a number, above 0" in error
    assert "resolution: got '720' (text); give one of 480p, 580p, 720p; did you mean 720p?" in error


def test_misspelt_field_gets_the_right_name() -> None:
    assert "did you mean guidance_scale_2?" in str(refusal(PLAIN, {"prompt": "a", "guidance_scale2": 3}))


def test_field_of_another_kind_names_that_kind() -> None:
    assert "kinds text-to-video-lora, image-to-video-lora" in str(
        refusal(PLAIN, {"prompt": "a", "loras": []})
    )
    assert "kind video-to-video has it" in str(refusal(PLAIN, {"prompt": "a", "resample_fps": True}))


def test_unknown_kind_gets_the_right_name() -> None:
    (problem,) = refusal("text-to-vidoe", {"prompt": "a"}).problems
    assert problem.field == "kind"
    assert "text-to-video" in problem.fix


def test_key_that_is_no_text_is_refused() -> None:
    assert [problem.field for problem in refusal(PLAIN, {"prompt": "a", 3: 4}).problems] == ["3"]


def test_a_number_too_long_to_write_is_refused() -> None:
    assert [problem.field for problem in refusal(PLAIN, {"prompt": "a", "seed": 10**5000}).problems] == [
        "seed"
    ]


def test_a_long_value_is_shortened() -> None:
    assert len(str(refusal(PLAIN, {"prompt": "a", "resolution": "7" * 10_000}))) < 250


def test_keyword_arguments_are_refused_the_same_way() -> None:
    with pytest.raises(RequestError, match="reverse_video"):
        t2v_request(prompt="a", reverse_video=0)
