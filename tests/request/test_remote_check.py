"""What fal and Novita would do with a request: send it as it is or in other words, or refuse it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.request import (
    KINDS,
    NOVITA_MODELS,
    NovitaModel,
    Report,
    WanRequest,
    check,
    check_all,
    field_table,
    for_novita,
    parse,
    request_for,
    side_by_side,
)

from .any_kind import request


def t2v(**values: Any) -> WanRequest:
    return request_for("text-to-video", {"prompt": "a", **values})


def verdicts(report: Report) -> dict[str, str]:
    return {item.field: item.status for item in report.findings if item.status != "warning"}


def reason(report: Report, field: str) -> str:
    return next(item.reason for item in report.findings if item.field == field)


@pytest.mark.parametrize("kind", [kind for kind, cls in KINDS.items() if cls.provider == "fal"])
def test_fal_honours_its_own_kinds_as_they_are(kind: str) -> None:
    asked = request(kind)
    report = check(asked, "fal")
    assert report.ok
    assert not report.adjustments
    assert set(verdicts(report)) == {row.name for row in field_table(kind)}


def test_fal_refuses_a_kind_of_novita_and_names_its_own() -> None:
    (problem,) = check(request("wan21-text-to-video"), "fal").problems
    assert problem.field == "kind"
    assert "use the kind text-to-video" in problem.fix


def test_fal_says_what_is_uploaded_and_what_is_left_to_it() -> None:
    report = check(request("image-to-video", image_url="a.png", seed=None), "fal")
    assert "uploaded" in reason(report, "image_url")
    assert "provider decides" in reason(report, "seed")
    assert "sent unchanged" in reason(check(request("image-to-video"), "fal"), "image_url")


@pytest.mark.parametrize("kind", ["legacy-text-to-video", "legacy-text-to-video-lora", "image-to-image"])
def test_fal_doubts_are_warnings(kind: str) -> None:
    report = check(request(kind), "fal")
    assert [item.field for item in report.findings if item.status == "warning"]
    assert report.ok


def test_older_limits_warn_where_the_request_is_sent_as_it_is() -> None:
    long = t2v(num_frames=141)
    assert "from 17 to 121" in check(long, "fal").text()
    assert "from 17 to 121" not in check(long, "novita").text()


@pytest.mark.parametrize(
    ("kind", "words", "more", "told"),
    [
        ("text-to-video", 512, {}, True),
        ("text-to-video", 511, {}, False),
        ("text-to-video", 512, {"enable_prompt_expansion": True}, False),
        ("wan25-text-to-video", 395, {}, False),
    ],
)
def test_a_prompt_that_is_surely_too_long_is_told(
    kind: str, words: int, more: dict[str, Any], told: bool
) -> None:
    report = check(request_for(kind, {"prompt": "a " * words, **more}), "fal")
    assert ("too long: Wan's text encoder reads 512 tokens" in report.text()) == told


def test_novita_gets_the_default_request_in_its_own_words() -> None:
    asked = t2v(seed=7, negative_prompt="blur", resolution="480p", aspect_ratio="9:16")
    sent = for_novita(asked)
    assert sent is not None
    assert sent.payload() == {
        "model_name": "wan2.1-t2v",
        "width": 480,
        "height": 832,
        "seed": 7,
        "prompt": "a",
        "negative_prompt": "blur",
        "steps": 27,
        "guidance_scale": 3.5,
        "flow_shift": 5.0,
    }


def test_novita_adjusts_preferences_and_reports_each() -> None:
    adjusted = {item.field: item.used for item in check(t2v(), "novita").adjustments}
    assert adjusted == {
        "model": "Wan 2.1 14B",
        "num_frames": "5 s",
        "frames_per_second": None,
        "acceleration": "none",
        "guidance_scale_2": None,
        "interpolator_model": "none",
        "num_interpolated_frames": 0,
        "video_quality": None,
        "video_write_mode": None,
    }


@pytest.mark.parametrize(
    "values",
    [
        {"num_frames": 33},
        {"frames_per_second": 24},
        {"guidance_scale_2": 3.0},
        {"resolution": "580p"},
        {"aspect_ratio": "1:1"},
        {"seed": 10**10},
        {"prompt": "a" * 2001},
        {"enable_safety_checker": True},
        {"enable_output_safety_checker": True},
        {"enable_prompt_expansion": True},
        {"interpolator_model": "rife"},
        {"num_interpolated_frames": 2},
        {"adjust_fps_for_interpolation": False},
        {"video_quality": "low"},
        {"video_write_mode": "small"},
        {"reverse_video": True},
        {"loras": [{"path": "owner/name"}] * 4},
        {"loras": [{"path": "owner/name", "scale": 4.5}]},
        {"loras": [{"path": "owner/name", "weight_name": "a.safetensors"}]},
        {"loras": [{"path": "owner/name", "transformer": "low"}]},
        {"loras": [{"path": "style.safetensors"}]},
        {"loras": [{"path": "C:\\loras\\style.safetensors"}]},
        {"loras": [{"path": "/home/me/style"}]},
        {"loras": [{"path": "folder/style.safetensors"}]},
    ],
    ids=str,
)
def test_novita_refuses_a_demand_by_name(values: dict[str, Any]) -> None:
    asked = t2v(**values)
    assert [problem.field for problem in check(asked, "novita").problems] == list(values)
    assert for_novita(asked) is None


def test_novita_takes_loras_without_their_expert() -> None:
    address = "https://civitai.com/api/download/models/1"
    sent = for_novita(
        t2v(loras=[{"path": "owner/name"}, {"path": address, "scale": 0.5, "transformer": "both"}])
    )
    assert sent is not None
    assert sent.payload()["loras"] == [{"path": "owner/name", "scale": 1.0}, {"path": address, "scale": 0.5}]


def test_novita_does_not_interpolate_but_takes_a_request_that_asks_for_none() -> None:
    report = check(
        t2v(interpolator_model="none", adjust_fps_for_interpolation=False, acceleration="none"), "novita"
    )
    assert report.ok
    assert verdicts(report)["num_interpolated_frames"] == "supported"


def test_novita_honours_its_own_kind_but_takes_no_files() -> None:
    asked = request("wan21-text-to-video")
    assert check(asked, "novita").ok
    assert for_novita(asked) is asked
    lora = {"path": "style.safetensors", "scale": 1.0}
    (problem,) = check(request("wan21-text-to-video", loras=[lora]), "novita").problems
    assert problem.field == "loras"
    assert "accepts no LoRA files" in problem.fix


def i2v(**values: Any) -> WanRequest:
    return request_for("image-to-video", {"prompt": "a", "image_url": "https://a/b.png", **values})


def test_novita_gets_an_image_in_its_own_words() -> None:
    sent = for_novita(i2v(seed=7, resolution="480p", enable_safety_checker=False, loras=[{"path": "a/b"}]))
    assert sent is not None
    assert sent.endpoint == "POST https://api.novita.ai/v3/async/wan-i2v"
    assert sent.payload() == {
        "prompt": "a",
        "image_url": "https://a/b.png",
        "width": 832,
        "height": 480,
        "loras": [{"path": "a/b", "scale": 1.0}],
        "seed": 7,
        "steps": 27,
        "guidance_scale": 3.5,
        "flow_shift": 5.0,
        "enable_safety_checker": False,
        "fast_mode": False,
    }


@pytest.mark.parametrize(
    "values",
    [
        {"image_url": "cat.png"},
        {"image_url": "sha256:00"},
        {"image_url": "data:image/png;base64,AA=="},
        {"image_url": "http://a/b.png"},
        {"end_image_url": "https://a/c.png"},
        {"aspect_ratio": "16:9"},
        {"resolution": "580p"},
        {"guidance_scale_2": 3.0},
    ],
    ids=str,
)
def test_novita_refuses_a_demand_on_an_image_by_name(values: dict[str, Any]) -> None:
    asked = i2v(**values)
    assert [problem.field for problem in check(asked, "novita").problems] == list(values)
    assert for_novita(asked) is None


def test_novita_s_newer_model_gets_the_default_request_in_its_own_words() -> None:
    sent = for_novita(t2v(seed=7, negative_prompt="blur", resolution="480p", aspect_ratio="1:1"), "Wan 2.2")
    assert sent is not None
    assert sent.payload() == {
        "input": {"prompt": "a", "negative_prompt": "blur"},
        "parameters": {"size": "624*624", "duration": 5, "prompt_extend": False, "seed": 7},
    }
    shown = i2v(resolution="480p", enable_prompt_expansion=True, loras=[{"path": "a/b"}])
    sent = for_novita(shown, "Wan 2.2")
    assert sent is not None
    assert sent.payload() == {
        "input": {"prompt": "a", "img_url": "https://a/b.png"},
        "parameters": {
            "resolution": "480P",
            "duration": 5,
            "prompt_extend": True,
            "loras": [{"path": "a/b", "scale": 1.0}],
        },
    }


@pytest.mark.parametrize("model", NOVITA_MODELS)
@pytest.mark.parametrize(
    "kind",
    [
        k
        for k, cls in KINDS.items()
        if cls.task in ("text-to-video", "legacy-text-to-video", "image-to-video")
    ],
)
def test_every_kind_that_novita_is_asked_for_can_be_said_to_both_models(
    kind: str, model: NovitaModel
) -> None:
    asked = parse(kind, {"prompt": "a", **({"image_url": "https://a/b.png"} if "image" in kind else {})})
    report = check(asked, "novita", novita_model=model)
    named = {problem.field for problem in report.problems}
    assert named <= {"guidance_scale_2"}, "with a LoRA the contract's own default counts as a demand"
    assert {row.name for row in field_table(kind)} <= {item.field for item in report.findings}
    assert (for_novita(asked, model) is None) == bool(named)


def test_what_cannot_be_said_to_novita_s_newer_model_is_adjusted_or_refused_by_name() -> None:
    adjusted = {item.field for item in check(t2v(), "novita", novita_model="Wan 2.2").adjustments}
    assert {"num_inference_steps", "guidance_scale", "guidance_scale_2", "shift", "num_frames"} <= adjusted
    assert "model" not in adjusted
    for values in (
        {"num_inference_steps": 20},
        {"guidance_scale": 5.0},
        {"guidance_scale_2": 3.5},
        {"shift": 3.0},
        {"num_frames": 33},
        {"resolution": "580p"},
        {"aspect_ratio": "1:1"},
        {"seed": 2**31},
        {"loras": [{"path": "owner/name"}] * 4},
        {"loras": [{"path": "style.safetensors"}]},
        {"loras": [{"path": "owner/name", "transformer": "low"}]},
        {"enable_safety_checker": True},
        {"reverse_video": True},
    ):
        report = check(t2v(**values), "novita", novita_model="Wan 2.2")
        named = [problem.field for problem in report.problems]
        assert set(named) <= {*values, "aspect_ratio"}, values
        assert named, values
        assert for_novita(t2v(**values), "Wan 2.2") is None
    (problem,) = check(request("wan21-text-to-video"), "novita", novita_model="Wan 2.2").problems
    assert "text-to-video" in problem.fix
    assert check(i2v(aspect_ratio="16:9"), "novita", novita_model="Wan 2.2").problems


def test_frames_between_at_novita_are_refused_though_it_has_no_rate_to_multiply() -> None:
    report = check(t2v(num_frames=81, interpolator_model="rife", num_interpolated_frames=2), "novita")
    assert {"interpolator_model", "num_interpolated_frames"} <= {item.field for item in report.problems}


def test_novita_honours_a_second_guidance_scale_that_is_the_first() -> None:
    assert check(t2v(guidance_scale=3.0, guidance_scale_2=3.0), "novita").ok


def test_novita_refuses_other_tasks_as_a_whole() -> None:
    (problem,) = check(request("video-to-video"), "novita").problems
    assert problem.field == "kind"


def test_novita_has_no_published_price() -> None:
    assert check(t2v(), "novita").price.usd is None


def test_runners_stand_side_by_side() -> None:
    reports = check_all(t2v(num_frames=33))
    assert [report.runner for report in reports] == ["local", "fal", "novita"]
    table = side_by_side(reports).splitlines()
    assert table[0].split() == ["local", "fal", "novita"]
    assert table[1].split() == ["can", "run", "yes", "yes", "no"]
    assert next(line.split() for line in table if line.startswith("num_frames"))[1:] == [
        "supported",
        "supported",
        "impossible",
    ]
    assert "price: about $0.17" in side_by_side(reports)


def test_seconds_that_nobody_can_expect_are_unknown() -> None:
    report = check(t2v(), "fal")
    expected, unknown = (replace(report, expected_s=seconds) for seconds in (107.6, None))
    (row,) = [line for line in side_by_side([expected, unknown]).splitlines() if line.startswith("seconds")]
    assert row.split() == ["seconds", "about", "108", "unknown"]


REMOTE_ONLY = [kind for kind, cls in KINDS.items() if cls.remote_only]


@pytest.mark.parametrize("kind", REMOTE_ONLY)
def test_a_kind_that_no_model_here_can_do_runs_at_its_provider_only(kind: str) -> None:
    asked = request(kind)
    [finding] = check(asked, "local").findings
    assert (finding.field, finding.status) == ("kind", "impossible")
    assert "--on fal" in finding.reason
    assert "runs only at fal" in check(asked, "novita").text()
    assert check(asked, "fal").ok
    if "return_frames_zip" in KINDS[kind].model_fields:
        assert not check(request(kind, return_frames_zip=True), "fal").ok


@pytest.mark.parametrize(
    ("kind", "values", "field", "reason"),
    [
        ("vace-depth", {"match_input_num_frames": True, "num_frames": 161}, "num_frames", "turn match_input"),
        ("wan26-text-to-video", {"enable_prompt_expansion": False}, None, ""),  # several shots are a default
        (
            "wan26-image-to-video",
            {"enable_prompt_expansion": False, "multi_shots": True},
            "multi_shots",
            "turn enable_prompt_expansion on",
        ),
        ("vace-inpainting", {"mask_video_url": None}, "mask_video_url", "needs mask_video_url or mask_image"),
        ("vace-inpainting", {"mask_image_url": "https://a/b.png"}, "mask_image_url", "beside mask_video_url"),
        ("wan27-image-to-video", {"video_url": "https://a/b.mp4"}, "video_url", "together with image_url"),
        ("wan26-reference-to-video", {"video_urls": ["http://a/b.mp4"]}, "video_urls", "not an https"),
        ("wan26-reference-to-video", {"video_urls": ["https://a/b"] * 4}, "video_urls", "from 1 to 3 items"),
    ],
)
def test_what_a_provider_would_ignore_or_not_take_together_is_refused_before_it_costs(
    kind: str, values: dict[str, Any], field: str | None, reason: str
) -> None:
    problems = check(request(kind, **values), "fal").problems
    assert [problem.field for problem in problems] == ([field] if field else [])
    assert all(reason in problem.fix for problem in problems)


def test_the_length_of_a_clip_at_a_provider_is_not_held_against_the_model_here() -> None:
    here, there = check_all(t2v(num_frames=33), ("local", "fal"), family=FAMILIES["toy"])
    assert "trained on 17 frames" in here.text()
    assert "trained on" not in there.text()


def test_a_report_as_a_table_has_price_seconds_and_what_differs_from_the_official_settings() -> None:
    here, there = check_all(t2v(num_frames=33), ("local", "fal"), family=FAMILIES["wan2.2-t2v-a14b"])
    assert "shift 5 (official 12)" in here.table()["official"]
    assert (here.table()["amount"], here.table()["seconds"]) == ("$0.00", "unknown")
    assert (there.table()["official"], there.table()["amount"]) == ("", "$0.17-$0.33")
    assert replace(there, expected_s=61.4).table()["seconds"] == "about 61"
