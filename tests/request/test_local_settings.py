"""The object `local` of a request: read, checked, kept, and sent to nobody."""

from __future__ import annotations

import argparse
import json
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.cli.request_flags import add_request_flags, read_request
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, GRIDS, Plan, make_plan
from wan_duet.pipelines.plan.planned_report import planned_report
from wan_duet.pipelines.request import (
    KINDS,
    LocalAbilities,
    Report,
    check,
    json_schema,
    local_row,
    parse,
    t2v_request,
    with_local,
    with_lora,
)
from wan_duet.pipelines.request.flags import values_of_flags
from wan_duet.pipelines.request.local_settings import LocalSettings, stage_loras
from wan_duet.pipelines.request.local_settings_rules import SETTING_MEANINGS
from wan_duet.pipelines.request.result_formats import CodecName, ContainerName
from wan_duet.pipelines.request.step_caches import StepCacheName
from wan_duet.pipelines.request.window_settings import FuseName, ScheduleName

A14B, ONE_EXPERT, SPEECH = (
    FAMILIES[name] for name in ("wan2.2-t2v-a14b", "wan2.1-t2v-14b", "wan2.2-s2v-14b")
)
S2V = "wan2.2-s2v-14b"
NEEDED = {
    "prompt": "a ball", "image_url": "a.png", "video_url": "a.mp4", "audio_url": "a.wav",
    "start_image_url": "a.png", "video_urls": ["a.mp4"], "mask_video_url": "m.mp4",
    "width": 832, "height": 480, "seed": 1,
}  # fmt: skip
FEW = {"guidance_scale": 1.0, "guidance_scale_2": 1.0, "negative_prompt": "blurry"}


def asked_for(kind: str, **local: Any) -> Any:
    needed = {name: value for name, value in NEEDED.items() if name in KINDS[kind].model_fields}
    return parse(kind, {**needed, "local": local} if local else needed)


def report(local: dict[str, Any], family: Any = A14B, **values: Any) -> Report:
    return check(t2v_request(prompt="a ball", local=local, **values), family=family)


def said(of: Report, field: str) -> str:
    return "; ".join(item.text() for item in of.findings if item.field == f"local.{field}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_it_and_without_it_is_the_request_of_before(kind: str) -> None:
    plain, local = asked_for(kind), asked_for(kind, nag_scale=5)
    assert local.payload() == plain.payload()
    assert "local" not in plain.document()
    assert local.document() == {**plain.payload(), "local": {"nag_scale": 5.0}}
    assert asked_for(kind, nag_scale=1) == plain  # off is as if it were left out
    assert "local" in json_schema(kind)["properties"]


EVERY_SETTING: dict[str, Any] = {
    "nag_scale": 5.0, "nag_scale_2": 4.0, "nag_tau": 2.0, "nag_alpha": 0.5, "nag_negative_prompt": "red",
    "cfg_zero_star": "both", "cfg_zero_steps": 1, "width": 64, "height": 96, "solver": "euler",
    "boundary": 0.5, "high_steps": 2, "sigmas": [1.0, 0.5, 0.0], "negative_preset": "official",
    "loras_per_stage": [{"path": "a.safetensors", "high": 0.5}],
    "prompt_syntax": "comfy", "count": 2,
    "context_frames": 41, "context_overlap": 8, "context_schedule": "looped_uniform", "context_fuse": "flat",
    "context_stride": 2, "context_closed_loop": True, "context_retain_first": True, "freenoise": False,
    "riflex": 6, "riflex_frames": 121,
    "phases": [{"expert": "high", "steps": 2, "guidance": 3.5, "loras": [{"path": "a.safetensors"}]}],
    "guidance": [3.5, 1.0],
    "prompt_ranges": [{"prompt": "it jumps", "seconds": 2.0}], "prompt_overlap": 8,
    "container": "mov", "codec": "h265", "bit_depth": 10, "scene_threshold": 0.5,
    "step_cache": "magcache", "step_cache_threshold": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_payload_has_any_setting_and_every_provider_refuses_each(kind: str) -> None:
    assert set(EVERY_SETTING) == set(LocalSettings.model_fields)
    asked = asked_for(kind, **EVERY_SETTING)
    assert json.dumps(asked.payload()) == json.dumps(asked_for(kind).payload())
    for runner in ("fal", "novita"):
        refused = {problem.field for problem in check(asked, runner).problems}
        assert refused >= {f"local.{name}" for name in EVERY_SETTING}
        assert check(asked, runner).resolved is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("runner", ["fal", "novita"])
def test_a_provider_refuses_each_setting_by_name(kind: str, runner: str) -> None:
    asked = check(asked_for(kind, nag_scale=5, cfg_zero_star="both"), runner)
    assert asked.resolved is None
    fields = {problem.field: problem.fix for problem in asked.problems}
    assert "only this machine has it" in fields["local.nag_scale"]
    assert "only this machine has it" in fields["local.cfg_zero_star"]


SIDE = st.integers(1, 50).map(lambda n: 32 * n) | st.integers(1, 2000)
VALUES: dict[str, Any] = {
    "count": st.integers(1, 1000),
    "nag_scale": st.floats(1, 100), "nag_scale_2": st.floats(1, 100), "nag_tau": st.floats(0.01, 100),
    "nag_alpha": st.floats(0, 1), "nag_negative_prompt": st.text("ab ", max_size=5),
    "cfg_zero_star": st.sampled_from(["off", "high", "low", "both"]), "cfg_zero_steps": st.integers(0, 50),
    "width": SIDE, "height": SIDE, "solver": st.sampled_from(["auto", *GRIDS]),
    "boundary": st.floats(0, 1), "high_steps": st.integers(0, 50),
    "sigmas": st.sets(st.integers(1, 40), min_size=1, max_size=9).map(
        lambda levels: [*(level / 40 for level in sorted(levels, reverse=True)), 0.0]
    ),
    "negative_preset": st.sampled_from(["none", "official"]),
    "loras_per_stage": st.lists(
        st.fixed_dictionaries({"path": st.just("a.safetensors")},
                              optional={"high": st.floats(-2, 2), "low": st.floats(-2, 2)}),
        max_size=2,
    ),
    "context_frames": st.integers(1, 200), "context_overlap": st.integers(0, 100),
    "context_schedule": st.sampled_from(get_args(ScheduleName)),
    "context_fuse": st.sampled_from(get_args(FuseName)), "context_stride": st.integers(1, 4),
    "context_closed_loop": st.booleans(), "context_retain_first": st.booleans(), "freenoise": st.booleans(),
    "riflex": st.integers(0, 22), "riflex_frames": st.integers(1, 400),
    "phases": st.sampled_from(["", "3.5, 1", "high 2: 1, low 3: 1", "2: 1"]),
    "guidance": st.lists(st.sampled_from([1.0, 3.5]), min_size=1, max_size=5),
    "prompt_ranges": st.sampled_from(["", "a", "a | b", "1s: a | b", "2s: a | 3s: b"]),
    "prompt_overlap": st.integers(0, 40),
    "container": st.sampled_from(get_args(ContainerName)), "codec": st.sampled_from(get_args(CodecName)),
    "bit_depth": st.sampled_from([8, 10]), "scene_threshold": st.floats(0, 1),
    "step_cache": st.sampled_from(get_args(StepCacheName)), "step_cache_threshold": st.floats(0.01, 1),
}  # fmt: skip


PLANNED = {
    "width",
    "height",
    "solver",
    "boundary",
    "high_steps",
    "sigmas",
    "context_frames",
    "riflex",
    "phases",
    "guidance",
    "prompt_ranges",
    "container",
    "codec",
    "bit_depth",
    "scene_threshold",
}  # what changes a plan


def float32(value: float) -> float:
    return float(np.float32(value))


@given(
    st.fixed_dictionaries({}, optional=VALUES),
    st.sampled_from(list(KINDS)),
    st.sampled_from(sorted(FAMILIES)),
)
def test_any_settings_are_refused_by_name_or_planned(local: dict[str, Any], kind: str, family: str) -> None:
    request = asked_for(kind, **local)
    assert parse(kind, json.dumps(request.document())) == request
    made = planned_report(check(request, family=FAMILIES[family]), FAMILIES[family])
    without = check(asked_for(kind), family=FAMILIES[family])
    if made.resolved is None:
        refused = {problem.field.partition("[")[0] for problem in made.problems}
        expected = {problem.field for problem in without.problems}
        assert refused - expected <= {
            "strength",
            *(f"local.{name}" for name in local),
        }  # a share of its steps
        return
    plan, plain = (make_plan(each.require(), FAMILIES[family], 0) for each in (made, without))
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert (plan.width, plan.height) == (local.get("width", plain.width), local.get("height", plain.height))
    if "sigmas" in local:
        assert plan.sigmas == tuple(map(float32, local["sigmas"]))
    if "high_steps" in local:
        assert plan.experts.count("high") == local["high_steps"]
    if plan.extra_guidance is None:
        assert "extra_guidance" not in plan.as_dict()
        assert plan == plain or set(local) & PLANNED
    else:
        assert plan.forwards > 0
        assert any(
            "lossy by choice" in item.reason or "does nothing" in item.reason for item in made.findings
        )


@pytest.mark.parametrize(
    ("kind", "family", "local", "says"),
    [
        ("text-to-video-turbo", "wan2.2-t2v-a14b", {"guidance": [1.0]}, "give 4"),
        ("image-to-video-turbo", "wan2.2-i2v-a14b", {"phases": "high 1: 1, low 1: 1"}, "give 4"),
        ("small-fast-video", "wan2.2-ti2v-5b", {"guidance": "1, 1"}, "give 3"),
    ],
)
def test_distilled_weights_refuse_other_steps_before_the_plan(
    kind: str, family: str, local: dict[str, Any], says: str
) -> None:
    (problem,) = check(asked_for(kind, **local), family=FAMILIES[family]).problems
    (setting,) = local
    assert problem.field == f"local.{setting}"
    assert says in f"{problem}"


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ({"local": {"guidance": [1.0]}}, False),
        ({"num_inference_steps": 3, "strength": 0.3}, False),
        ({"num_inference_steps": 3, "strength": 0.34}, True),
        ({"num_inference_steps": 1, "strength": 0}, True),
    ],
)
def test_a_strength_of_less_than_one_step_is_refused(values: dict[str, Any], fits: bool) -> None:
    request = parse("image-to-image", {"prompt": "a ball", "image_url": "a.png", **values})
    problems = check(request, family=FAMILIES["toy"]).problems
    assert [problem.field for problem in problems] == ([] if fits else ["strength"])


@pytest.mark.parametrize(
    ("local", "says"),
    [
        ({"nag_scale": 0.5}, "local.nag_scale: got 0.5 (number); give a number from 1 to 100"),
        ({"nag_alpha": 2}, "local.nag_alpha: got 2 (whole number); give a number from 0 to 1"),
        ({"nagscale": 5}, "local.nagscale: there is no such field; did you mean nag_scale?"),
        ({"cfg_zero_star": "all"}, "give one of off, high, low, both"),
        ({"width": 0}, "local.width: got 0 (whole number); give a whole number from 1 to 65535"),
        (
            {"sigmas": [1.0, 0.5]},
            "give a list of numbers such as [1.0, 0.9, 0.5, 0.0], falling from at most 1",
        ),
        ({"sigmas": [0.5, 0.9, 0.0]}, "local.sigmas: got [0.5, 0.9, 0.0] (list)"),
        ({"sigmas": [1.5, 0.0]}, "local.sigmas: got [1.5, 0.0] (list)"),
        ({"sigmas": "1"}, "local.sigmas: got '1' (text)"),
        ({"solver": "heun"}, "give one of auto, unipc, dpm++, euler, lightning, dmd, rcm"),
        ({"boundary": 1.1}, "local.boundary: got 1.1 (number); give a number from 0 to 1"),
        ({"loras_per_stage": [{"path": " "}]}, "local.loras_per_stage[0].path: got ' '"),
        ({"loras_per_stage": [{"high": 1.0}]}, "local.loras_per_stage[0].path: missing"),
        ({"cfg_zero_steps": 1.5}, "local.cfg_zero_steps: got 1.5 (number); give a whole number from 0"),
        (5, 'local: got 5 (whole number); give {"nag_scale": 5.0, "width": 512'),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(local: Any, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse("text-to-video", {"prompt": "a", "local": local})
    assert says in str(caught.value)


def test_nag_is_lossy_by_choice_and_makes_the_negative_prompt_act() -> None:
    told = report({"nag_scale": 5}, **FEW)
    assert told.ok
    assert "lossy by choice: NAG changes what the high-noise and low-noise expert draws" in told.text()
    assert "has no effect" not in told.text()
    assert "has no effect" in report({"nag_scale": 5, "nag_negative_prompt": "red"}, **FEW).text()
    assert "negative prompt is empty" in said(report({"nag_scale": 5}), "nag_scale")


def test_settings_of_nag_without_nag_do_nothing() -> None:
    assert "does nothing while nag_scale is 1" in said(report({"nag_tau": 3}), "nag_tau")


@pytest.mark.parametrize(
    ("star", "scales", "idle", "lossy"),
    [
        ("both", (1.0, 1.0), "high-noise and low-noise", None),
        ("both", (3.0, 1.0), "low-noise", "high-noise"),
        ("low", (3.0, 1.0), "low-noise", None),
        ("high", (3.0, 1.0), None, "high-noise"),
    ],
)
def test_cfg_zero_star_at_guidance_1_does_nothing(
    star: str, scales: tuple[float, float], idle: str | None, lossy: str | None
) -> None:
    text = said(
        report({"cfg_zero_star": star}, guidance_scale=scales[0], guidance_scale_2=scales[1]), "cfg_zero_star"
    )
    assert (f"does nothing on the {idle} expert" in text) == ("does nothing" in text) == (idle is not None)
    assert (f"lossy by choice: CFG-Zero* changes what the {lossy} expert" in text) == (lossy is not None)


@pytest.mark.parametrize(
    ("local", "values", "says"),
    [
        ({"cfg_zero_star": "both", "cfg_zero_steps": 3}, {"num_inference_steps": 30}, None),
        ({"cfg_zero_star": "both", "cfg_zero_steps": 4}, {"num_inference_steps": 30}, "more than a tenth"),
        ({"cfg_zero_steps": 2}, {}, "does nothing while cfg_zero_star is off"),
        ({"cfg_zero_star": "both", "cfg_zero_steps": 2}, FEW, "does nothing while the guidance scale is 1"),
        ({"cfg_zero_star": "low", "cfg_zero_steps": 2}, {}, "does nothing where the first steps are"),
    ],
)
def test_zeroed_steps_are_warned_of(local: dict[str, Any], values: dict[str, Any], says: str | None) -> None:
    told = report(local, **values)
    warnings = [
        item.reason
        for item in told.findings
        if item.field == "local.cfg_zero_steps" and item.status == "warning"
    ]
    assert told.ok
    assert len(warnings) == (says is not None)
    assert says is None or says in warnings[0]


@pytest.mark.parametrize(
    ("local", "family", "field", "says"),
    [
        ({"nag_scale_2": 5}, ONE_EXPERT, "nag_scale_2", "one expert; use nag_scale"),
        ({"cfg_zero_star": "low"}, ONE_EXPERT, "cfg_zero_star", "one expert; use high or both"),
        ({"cfg_zero_star": "both", "cfg_zero_steps": 27}, A14B, "cfg_zero_steps", "only 27 steps run"),
    ],
)
def test_what_cannot_be_is_refused(local: dict[str, Any], family: Any, field: str, says: str) -> None:
    told = report(local, family)
    assert not told.ok
    assert says in said(told, field)


@pytest.mark.parametrize(
    ("local", "values", "family", "field", "says"),
    [
        ({"width": 832}, {}, A14B, "width", "give local.height too"),
        ({"width": 832, "height": 470}, {}, A14B, "height", "multiples of 16 pixels; the nearest is 464"),
        ({"boundary": 0.5}, {}, ONE_EXPERT, "boundary", "has one expert"),
        ({"high_steps": 3}, {}, ONE_EXPERT, "high_steps", "has one expert"),
        ({"high_steps": 3, "boundary": 0.5}, {}, A14B, "high_steps", "leave one of the two out"),
        ({"high_steps": 28}, {}, A14B, "high_steps", "there are 27 steps; give 27 or fewer"),
        ({"solver": "lightning"}, {}, A14B, "solver", "give num_inference_steps 4"),
        ({"solver": "lightning", "sigmas": [1.0, 0.0]}, {}, A14B, "solver", "use euler with sigmas"),
        ({"solver": "dmd"}, {}, A14B, "solver", "give num_inference_steps 3"),
        ({"solver": "dmd", "sigmas": [1.0, 0.0]}, {}, A14B, "solver", "use rcm with sigmas"),
        ({"solver": "rcm"}, {}, A14B, "solver", "give num_inference_steps 4"),
        (
            {"negative_preset": "official"},
            {"negative_prompt": "red"},
            A14B,
            "negative_preset",
            "leave one of",
        ),
        ({"loras_per_stage": [{"path": "http://a/b"}]}, {}, A14B, "loras_per_stage", "over https only"),
        (
            {"loras_per_stage": [{"path": "a/b.pt", "low": 0}]},
            {},
            ONE_EXPERT,
            "loras_per_stage",
            "one expert",
        ),
    ],
)
def test_a_setting_that_this_run_cannot_have_is_refused_by_name(
    local: dict[str, Any], values: dict[str, Any], family: Any, field: str, says: str
) -> None:
    told = report(local, family, **values)
    assert [problem.field for problem in told.problems] == [f"local.{field}"]
    assert says in said(told, field)


@pytest.mark.parametrize(
    ("local", "values", "field"),
    [
        ({"width": 640, "height": 640}, {"resolution": "480p"}, "resolution"),
        ({"width": 640, "height": 640}, {"aspect_ratio": "1:1"}, "aspect_ratio"),
        ({"sigmas": [1.0, 0.5, 0.0]}, {"num_inference_steps": 20}, "num_inference_steps"),
        ({"sigmas": [1.0, 0.5, 0.0]}, {"shift": 3.0}, "shift"),
    ],
)
def test_a_demand_that_a_setting_replaces_is_refused_and_a_default_is_adjusted(
    local: dict[str, Any], values: dict[str, Any], field: str
) -> None:
    (problem,) = report(local, **values).problems
    assert problem.field == field
    assert report(local).ok


@pytest.mark.parametrize("kind", ["text-to-video-turbo", "small-fast-video"])
def test_weights_that_are_distilled_keep_their_steps(kind: str) -> None:
    family = A14B if "turbo" in kind else FAMILIES["wan2.2-ti2v-5b"]
    told = check(asked_for(kind, solver="euler", sigmas=[1.0, 0.0]), family=family)
    assert [problem.field for problem in told.problems] == ["local.solver", "local.sigmas"]


def test_the_plan_has_the_steps_and_the_size_that_are_set() -> None:
    plan = make_plan(
        report({"width": 640, "height": 352, "solver": "euler", "boundary": 0.5}).require(), A14B, 0
    )
    assert (plan.width, plan.height, plan.grid, plan.boundary) == (640, 352, "euler", 0.5)
    assert all(
        (timestep >= 500) == (name == "high")
        for timestep, name in zip(plan.timesteps, plan.experts, strict=True)
    )
    plan = make_plan(report({"high_steps": 2, "sigmas": [1.0, 0.75, 0.25, 0.0]}).require(), A14B, 0)
    assert (plan.experts, plan.grid, plan.solver) == (("high", "high", "low"), "explicit", "unipc")
    assert (plan.sigmas, plan.timesteps) == ((1.0, 0.75, 0.25, 0.0), (1000.0, 750.0, 250.0))
    assert plan.boundary is None


@pytest.mark.parametrize("family", [A14B, SPEECH, FAMILIES["wan2.1-flf2v-14b"]])
def test_the_official_negative_prompt_stands_where_there_is_none(family: Any) -> None:
    kind = {"wan2.2-s2v-14b": "speech-to-video", "wan2.1-flf2v-14b": "image-to-video"}.get(family.name)
    values = {"end_image_url": "b.png"} if family.end_image == "must" else {}
    plain = asked_for(kind or "text-to-video")
    asked = parse(plain.kind, {**plain.payload(), **values, "local": {"negative_preset": "official"}})
    resolved = check(asked, family=family).require()
    assert resolved.values["negative_prompt"] == family.negative_prompt
    assert asked.payload()["negative_prompt"] == ""


def test_the_official_negative_prompt_is_what_nag_avoids_and_what_counts_as_given() -> None:
    resolved = report({"negative_preset": "official", "nag_scale": 5}).require()
    assert resolved.values["nag_negative_prompt"] == A14B.negative_prompt
    few = {"guidance_scale": 1.0, "guidance_scale_2": 1.0}
    assert "has no effect" in report({"negative_preset": "official"}, **few).text()


@pytest.mark.parametrize(
    ("lora", "entries"),
    [
        ({}, [("both", 1.0)]),
        ({"high": 0.5}, [("both", 0.5)]),
        ({"high": 0.5, "low": 0}, [("high", 0.5)]),
        ({"high": 0, "low": -1}, [("low", -1.0)]),
        ({"high": 0, "low": 0}, [("both", 0.0)]),
        ({"low": 2}, [("high", 1.0), ("low", 2.0)]),
    ],
)
def test_a_lora_per_stage_is_one_entry_per_strength(lora: dict[str, Any], entries: list[Any]) -> None:
    asked = LocalSettings.model_validate({"loras_per_stage": [{"path": "a/b", "weight_name": "c", **lora}]})
    made = stage_loras(asked)
    assert [(entry.transformer, entry.scale) for entry in made] == entries
    assert {(entry.path, entry.weight_name) for entry in made} == {("a/b", "c")}


def test_a_solver_is_one_of_the_grids() -> None:
    (row,) = [row for row in local_row().fields if row.name == "solver"]
    assert set(row.enum or ()) == {"auto", *GRIDS}


def test_speech_has_no_nag_and_says_so() -> None:
    told = check(
        asked_for("speech-to-video", nag_scale=5, cfg_zero_star="both"), family=FAMILIES["wan2.2-s2v-14b"]
    )
    assert [problem.field for problem in told.problems] == ["local.nag_scale"]
    assert "the speech model has no NAG" in said(told, "nag_scale")


def test_a_model_of_comfyui_is_guided_by_comfyui() -> None:
    request = t2v_request(prompt="a", local={"nag_scale": 5})
    told = check(request, family=A14B, abilities=LocalAbilities(own_engine=False))
    assert "patch the MODEL instead" in said(told, "nag_scale")
    assert not told.ok


def test_the_plan_has_the_numbers_of_each_expert() -> None:
    plan = make_plan(report({"nag_scale": 5, "nag_scale_2": 3, "nag_tau": 2}, **FEW).require(), A14B, 0)
    assert plan.extra_guidance is not None
    assert plan.extra_guidance.nag_scale == {"high": 5.0, "low": 3.0}
    assert plan.extra_guidance.nag_tau == 2
    assert plan.extra_guidance.acting(plan.guidance, plan.experts) == ["nag"]
    (one,) = make_plan(
        check(asked_for("wan21-text-to-video", nag_scale=5), family=ONE_EXPERT).require(), ONE_EXPERT, 0
    ).extra_guidance.nag_scale  # type: ignore[union-attr]
    assert one == "high"


def test_later_settings_and_loras_keep_the_earlier_ones() -> None:
    request = with_lora(t2v_request(prompt="a", local={"nag_scale": 5}), {"path": "a.safetensors"})
    assert request.local == LocalSettings(nag_scale=5)
    assert with_local(request, {"nag_tau": 3.0}).local == LocalSettings(nag_scale=5, nag_tau=3)
    assert with_local(request, {"nag_scale": 2.0}).local == LocalSettings(nag_scale=2)


def test_flags_win_over_the_object_of_a_file(tmp_path: Any) -> None:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"prompt": "a", "local": {"nag_scale": 5, "nag_tau": 3}}))
    parser = argparse.ArgumentParser()
    add_request_flags(parser, "text-to-video")
    flags = ["--local-nag-tau", "2", "--local-cfg-zero-star", "low", "--local-nag-negative-prompt", "7"]
    flags += ["--local-sigmas", "1, 0.5,0", "--local-width", "64"]
    options = parser.parse_args([str(file), *flags])
    local = LocalSettings(
        nag_scale=5, nag_tau=2, cfg_zero_star="low", nag_negative_prompt="7", sigmas=(1.0, 0.5, 0.0), width=64
    )
    assert read_request(options).local == local
    assert "local" not in values_of_flags(parser.parse_args([str(file)]))


def test_every_setting_has_a_meaning_and_a_description() -> None:
    names = [row.name for row in local_row().fields]
    assert names == list(LocalSettings.model_fields) == list(SETTING_MEANINGS)
    assert all(row.description for row in local_row().fields)
