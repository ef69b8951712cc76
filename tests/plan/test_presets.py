"""Presets: each official number is that of the official code, and what a request states itself wins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli.commands import main
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, make_plan
from wan_duet.pipelines.plan.families import DISTILLED_TASKS, default_family
from wan_duet.pipelines.plan.presets import PRESETS, with_preset
from wan_duet.pipelines.request import KINDS, LOCAL_KINDS, check, parse
from wan_duet.pipelines.request.distilled import DISTILLED_WEIGHTS

OFFICIAL = json.loads(Path(__file__).with_name("official_settings.json").read_text(encoding="utf-8"))
MODELS: dict[str, dict[str, Any]] = {**OFFICIAL["wan2.2"]["models"], **OFFICIAL["wan2.1"]["models"]}
NEEDED = {
    "video_urls": ["a.mp4"], "start_image_url": "a.png",
    "prompt": "a", "image_url": "a.png", "end_image_url": "b.png", "video_url": "a.mp4", "audio_url": "a.wav",
    "width": 832, "height": 480, "seed": 7,
}  # fmt: skip


def needed(kind: str, family: str | None = None) -> dict[str, Any]:
    fields = {name: value for name, value in NEEDED.items() if name in KINDS[kind].model_fields}
    if family is None or FAMILIES[family].end_image != "must":
        fields.pop("end_image_url", None)
    return fields


def official(kind: str, family: str | None = None, **given: Any) -> dict[str, Any]:
    model = None if family is None else FAMILIES[family]
    return with_preset("official", KINDS[kind], model, {**needed(kind, family), **given})


def kinds_of_models() -> Iterator[tuple[str, str]]:
    for name in MODELS:
        for kind in LOCAL_KINDS:
            task = KINDS[kind].task
            if task in FAMILIES[name].tasks and task not in DISTILLED_TASKS:
                yield name, kind


@pytest.mark.parametrize("name", MODELS)
def test_every_family_of_wan_has_the_numbers_of_the_official_code(name: str) -> None:
    family, numbers = FAMILIES[name], MODELS[name]
    scales = numbers["sample_guide_scale"]
    high_first = tuple(reversed(scales)) if isinstance(scales, list) else (scales,)
    assert family.guidance == high_first
    assert (family.steps, family.default_shift) == (numbers["sample_steps"], numbers["sample_shift"])
    assert family.shift_480p == numbers.get("sample_shift_480p")
    assert family.boundary == numbers.get("boundary")
    assert family.default_fps == numbers["sample_fps"]
    assert family.negative_prompt == numbers["sample_neg_prompt"]
    frames = numbers["infer_frames"] if family.needs_audio else numbers["frame_num"]
    assert family.needs_audio or family.trained_frames == frames


def test_every_family_of_wan_is_compared() -> None:
    assert set(MODELS) == {name for name in FAMILIES if name.startswith("wan")}


@pytest.mark.parametrize(("name", "kind"), list(kinds_of_models()))
def test_the_preset_asks_for_the_official_numbers_and_they_are_planned(name: str, kind: str) -> None:
    family, numbers = FAMILIES[name], MODELS[name]
    report = check(parse(kind, official(kind, name)), family=family)
    assert report.official == ""
    plan = make_plan(report.require(), family, 0)
    scales = numbers["sample_guide_scale"]
    low, high = scales if isinstance(scales, list) else (None, scales)
    assert (plan.guidance["high"], plan.guidance.get("low")) == (high, low)
    assert (len(plan.timesteps), plan.shift) == (numbers["sample_steps"], numbers["sample_shift"])
    assert (plan.solver, plan.grid, plan.boundary) == ("unipc", "unipc", numbers.get("boundary"))
    assert report.require().values["negative_prompt"] == numbers["sample_neg_prompt"]
    if plan.output == "mp4":
        assert plan.frames_delivered == numbers.get("infer_frames", numbers.get("frame_num"))
        assert plan.fps == numbers["sample_fps"]


def test_what_the_request_states_wins_over_the_preset() -> None:
    made = official("text-to-video", shift=7.0, local={"solver": "euler"})
    assert (made["shift"], made["num_inference_steps"], made["local"]) == (7.0, 40, {"solver": "euler"})
    both = with_preset(
        "lightning", KINDS["text-to-video"], None, {"prompt": "a", "local": {"nag_scale": 5.0}}
    )
    assert both["local"] == {"solver": "lightning", "nag_scale": 5.0}


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("official", {"sigmas": [1.0, 0.5, 0.0]}),
        ("draft", {"width": 640, "height": 480}),
        ("rcm-i2v", {"high_steps": 2}),
    ],
)
def test_a_preset_leaves_out_what_settings_of_this_machine_decide(name: str, local: dict[str, Any]) -> None:
    asked = {"prompt": "a", "image_url": "a.png", "local": local}
    request = parse("image-to-video", with_preset(name, KINDS["image-to-video"], None, asked))
    assert check(request, family=default_family("image-to-video")).ok
    assert request.document()["local"].items() >= local.items()


def test_what_is_no_object_beside_a_preset_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"^local: got 5"):
        parse(
            "text-to-video",
            with_preset("official", KINDS["text-to-video"], None, {"prompt": "a", "local": 5}),
        )


def test_480p_has_the_shift_that_the_official_code_gives_it() -> None:
    assert official("image-to-video", "wan2.1-i2v-14b")["shift"] == 5.0
    assert official("image-to-video", "wan2.1-i2v-14b", resolution="480p")["shift"] == 3.0


def test_a_model_that_the_official_code_does_not_know_has_the_settings_of_the_kind() -> None:
    assert official("text-to-video", "toy") == official("text-to-video", default_family("text-to-video").name)


def test_check_says_how_a_request_differs() -> None:
    told = check(parse("text-to-video", {"prompt": "a", "shift": 12.0}), family=FAMILIES["wan2.2-t2v-a14b"])
    assert "num_inference_steps 27 (official 40)" in told.official
    assert "guidance_scale_2 4 (official 3)" in told.official
    assert "shift" not in told.official
    assert told.official in told.text()
    assert told.as_dict()["official"] == told.official
    assert check(parse("text-to-video", {"prompt": "a"}), "fal").official == ""


HAS: dict[str, set[str]] = {
    "official": {kind for kind in LOCAL_KINDS if KINDS[kind].task not in DISTILLED_TASKS},
    "fal": {kind for kind, cls in KINDS.items() if cls.provider == "fal"},
    "lightning": {
        kind
        for kind, cls in KINDS.items()
        if {"num_inference_steps", "steps"} & set(cls.model_fields) and "guidance_scale" in cls.model_fields
        if not cls.remote_only and not cls.task.startswith(("small-", "speech-"))
    },
    "draft": set(KINDS),
}
HAS |= {known.preset: HAS["lightning"] for known in DISTILLED_WEIGHTS}
HAS["fastwan"] = HAS["lightning"] | {
    kind for kind, cls in KINDS.items() if cls.task.startswith("small-") and cls.task != "small-fast-video"
}
HAS["rcm-i2v"] = {kind for kind in HAS["lightning"] if default_family(KINDS[kind].task).experts == 2}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_request_that_can_run_or_is_refused_by_name(name: str, kind: str) -> None:
    cls = KINDS[kind]
    family = None if cls.remote_only else default_family(cls.task)
    if kind not in HAS[name]:
        with pytest.raises(RequestError, match=f"preset: {kind} has no preset {name}"):
            with_preset(name, cls, family, needed(kind))
        return
    request = parse(kind, with_preset(name, cls, family, needed(kind)))
    assert family is None or check(request, family=family).ok


def test_a_draft_at_a_provider_is_its_smallest_tier() -> None:
    tiers = {
        kind: with_preset("draft", KINDS[kind], None, needed(kind))["resolution"]
        for kind in ("vace-depth", "wan25-text-to-video", "wan27-text-to-video")
    }
    assert tiers == {"vace-depth": "240p", "wan25-text-to-video": "480p", "wan27-text-to-video": "720p"}


def test_a_draft_leaves_the_size_to_a_model_that_has_its_own() -> None:
    toy = FAMILIES["toy"]
    made = with_preset("draft", KINDS["text-to-image"], toy, needed("text-to-image"))
    assert check(parse("text-to-image", made), family=toy).ok


def test_a_preset_of_four_steps_has_the_levels_of_lightning() -> None:
    request = parse("text-to-video", with_preset("lightning", KINDS["text-to-video"], None, {"prompt": "a"}))
    family = FAMILIES["wan2.2-t2v-a14b"]
    plan = make_plan(check(request, family=family).require(), family, 0)
    assert (plan.grid, plan.solver, plan.forwards) == ("lightning", "euler", 4)


@pytest.mark.parametrize(
    ("kind", "family"), [("text-to-video", "wan2.1-t2v-14b"), ("small-text-to-video", "wan2.2-ti2v-5b")]
)
def test_the_preset_of_fastwan_has_its_three_steps(kind: str, family: str) -> None:
    request = parse(kind, with_preset("fastwan", KINDS[kind], FAMILIES[family], {"prompt": "a"}))
    plan = make_plan(check(request, family=FAMILIES[family]).require(), FAMILIES[family], 0)
    assert (plan.solver, plan.timesteps, plan.forwards) == ("dmd", (1000.0, 757.0, 522.0), 3)
    assert plan.shift == 8.0


def test_the_preset_of_the_command_line_is_below_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--preset", "official", "--prompt", "a", "--num-frames", "9", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["frames_delivered"], plan["shift"], len(plan["timesteps"])) == (9, 12.0, 40)
    assert plan["guidance"] == {"high": 4.0, "low": 3.0}
    turbo = ["check", "--kind", "text-to-video-turbo", "--preset", "official", "--prompt", "a"]
    assert main(turbo) == 2
    assert "preset: text-to-video-turbo has no preset official" in capsys.readouterr().err
