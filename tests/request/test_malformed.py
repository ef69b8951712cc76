"""Requests that must be refused, each naming the field at fault."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import KINDS, parse, t2v_request

PLAIN, LORA = "text-to-video", "text-to-video-lora"

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
    (PLAIN, "num_frames", 16),
    (PLAIN, "num_frames", 162),
    (PLAIN, "num_frames", 10**400),
    (PLAIN, "frames_per_second", 3),
    (PLAIN, "frames_per_second", 61),
    (PLAIN, "seed", -1),
    (PLAIN, "seed", 2**64),
    (PLAIN, "seed", "random"),
    (PLAIN, "resolution", "1080p"),
    (PLAIN, "resolution", 720),
    (PLAIN, "aspect_ratio", "4:3"),
    (PLAIN, "num_inference_steps", 1),
    (PLAIN, "num_inference_steps", 41),
    (PLAIN, "enable_safety_checker", "yes"),
    (PLAIN, "enable_prompt_expansion", 1),
    (PLAIN, "acceleration", "high"),
    (PLAIN, "guidance_scale", 0.5),
    (PLAIN, "guidance_scale", float("nan")),
    (PLAIN, "guidance_scale_2", float("inf")),
    (PLAIN, "guidance_scale_2", False),
    (PLAIN, "shift", 10.01),
    (PLAIN, "interpolator_model", "flow"),
    (PLAIN, "num_interpolated_frames", 5),
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
def test_missing_prompt_is_named(kind: str) -> None:
    (problem,) = refusal(kind, {}).problems
    assert (problem.field, problem.found) == ("prompt", "missing")


def test_every_bad_field_is_named_at_once() -> None:
    error = refusal(PLAIN, '{"prompt": " ", "num_frames": 400, "resolution": "720"}')
    assert {problem.field for problem in error.problems} == {"prompt", "num_frames", "resolution"}


def test_the_fix_says_what_would_work() -> None:
    error = str(refusal(PLAIN, {"prompt": "a", "num_frames": 400, "resolution": "720"}))
    assert "num_frames: got 400 (whole number); give a whole number from 17 to 161" in error
    assert "resolution: got '720' (text); give one of 480p, 580p, 720p; did you mean 720p?" in error


def test_misspelt_field_gets_the_right_name() -> None:
    assert "did you mean guidance_scale_2?" in str(refusal(PLAIN, {"prompt": "a", "guidance_scale2": 3}))


def test_field_of_another_kind_names_that_kind() -> None:
    assert "kind text-to-video-lora" in str(refusal(PLAIN, {"prompt": "a", "loras": []}))


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
