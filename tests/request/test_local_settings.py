"""The object `local` of a request: read, checked, kept, and sent to nobody."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.cli.request_flags import add_request_flags, read_request
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, Plan, make_plan
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
from wan_duet.pipelines.request.local_settings import LocalSettings
from wan_duet.pipelines.request.local_settings_rules import SETTING_MEANINGS

A14B, ONE_EXPERT, SPEECH = (
    FAMILIES[name] for name in ("wan2.2-t2v-a14b", "wan2.1-t2v-14b", "wan2.2-s2v-14b")
)
S2V = "wan2.2-s2v-14b"
FEW = {"guidance_scale": 1.0, "guidance_scale_2": 1.0, "negative_prompt": "blurry"}
NEEDED = {
    "prompt": "a ball", "image_url": "a.png", "video_url": "a.mp4", "audio_url": "a.wav",
    "width": 832, "height": 480, "seed": 1,
}  # fmt: skip


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("runner", ["fal", "novita"])
def test_a_provider_refuses_each_setting_by_name(kind: str, runner: str) -> None:
    asked = check(asked_for(kind, nag_scale=5, cfg_zero_star="both"), runner)
    assert asked.resolved is None
    fields = {problem.field: problem.fix for problem in asked.problems}
    assert "only this machine has it" in fields["local.nag_scale"]
    assert "only this machine has it" in fields["local.cfg_zero_star"]


VALUES: dict[str, Any] = {
    "nag_scale": st.floats(1, 100), "nag_scale_2": st.floats(1, 100), "nag_tau": st.floats(0.01, 100),
    "nag_alpha": st.floats(0, 1), "nag_negative_prompt": st.text("ab ", max_size=5),
    "cfg_zero_star": st.sampled_from(["off", "high", "low", "both"]), "cfg_zero_steps": st.integers(0, 50),
}  # fmt: skip


SETTINGS = st.fixed_dictionaries({}, optional=VALUES)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=VALUES),
    st.sampled_from(list(KINDS)),
    st.sampled_from(sorted(FAMILIES)),
)
def test_any_settings_are_refused_by_name_or_planned(local: dict[str, Any], kind: str, family: str) -> None:
    request = asked_for(kind, **local)
    assert parse(kind, json.dumps(request.document())) == request
    made = check(request, family=FAMILIES[family])
    without = check(asked_for(kind), family=FAMILIES[family])
    if made.resolved is None:
        refused = {problem.field for problem in made.problems}
        expected = {problem.field for problem in without.problems}
        assert refused - expected <= {f"local.{name}" for name in local}
        return
    plan, plain = (make_plan(each.require(), FAMILIES[family], 0) for each in (made, without))
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert 0 < plan.forwards <= plain.forwards
    if plan.extra_guidance is None:
        assert plan == plain
        assert "extra_guidance" not in plan.as_dict()
    else:
        assert any(
            "lossy by choice" in item.reason or "does nothing" in item.reason for item in made.findings
        )


@pytest.mark.parametrize(
    ("local", "says"),
    [
        ({"nag_scale": 0.5}, "local.nag_scale: got 0.5 (number); give a number from 1 to 100"),
        ({"nag_alpha": 2}, "local.nag_alpha: got 2 (whole number); give a number from 0 to 1"),
        ({"nagscale": 5}, "local.nagscale: there is no such field; did you mean nag_scale?"),
        ({"cfg_zero_star": "all"}, "give one of off, high, low, both"),
        ({"cfg_zero_steps": 1.5}, "local.cfg_zero_steps: got 1.5 (number); give a whole number from 0"),
        (5, 'local: got 5 (whole number); give {"nag_scale": 5.0}'),
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
    assert "negative_prompt" not in told.text()
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
    options = parser.parse_args([str(file), *flags])
    local = LocalSettings(nag_scale=5, nag_tau=2, cfg_zero_star="low", nag_negative_prompt="7")
    assert read_request(options).local == local
    assert "local" not in values_of_flags(parser.parse_args([str(file)]))


def test_every_setting_has_a_meaning_and_a_description() -> None:
    names = [row.name for row in local_row().fields]
    assert names == list(LocalSettings.model_fields) == list(SETTING_MEANINGS)
    assert all(row.description for row in local_row().fields)
