"""What the check says: honoured, adjusted, impossible, or worth a warning."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.request import Finding, LocalAbilities, Report, check, t2v_request

A14B, TOY, ONE_EXPERT = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["toy"], FAMILIES["wan2.1-t2v-14b"]


def report(family: Any = A14B, abilities: LocalAbilities | None = None, **values: Any) -> Report:
    return check(t2v_request(prompt="a red ball", **values), family=family, abilities=abilities)


def finding(of: Report, field: str, status: str | None = None) -> Finding:
    return next(item for item in of.findings if item.field == field and status in (None, item.status))


def test_every_field_gets_exactly_one_verdict() -> None:
    request = t2v_request(prompt="a red ball", loras=[{"path": "a"}])
    verdicts = [item.field for item in check(request).findings if item.status != "warning"]
    assert verdicts == list(type(request).model_fields)


def test_defaults_that_cannot_be_had_are_adjusted_and_reported() -> None:
    changes = {item.field: (item.asked, item.used) for item in report().adjustments}
    assert changes == {"interpolator_model": ("film", "flow"), "acceleration": ("regular", "none")}
    assert report().ok


@pytest.mark.parametrize(
    ("have", "used"),
    [(("flow",), "flow"), (("flow", "rife"), "rife"), ((), "none")],
)
def test_film_falls_back_to_what_is_there(have: tuple[str, ...], used: str) -> None:
    assert finding(report(abilities=LocalAbilities(interpolators=have)), "interpolator_model").used == used


def test_film_that_is_there_is_used() -> None:
    there = report(abilities=LocalAbilities(interpolators=("flow", "film")))
    assert finding(there, "interpolator_model").status == "supported"


def test_rife_is_a_demand_and_says_what_would_make_it_possible() -> None:
    asked = report(interpolator_model="rife")
    assert not asked.ok
    (problem,) = asked.problems
    assert problem.field == "interpolator_model"
    assert "later version" in problem.fix


def test_interpolator_does_not_matter_when_no_frame_is_added() -> None:
    assert report(interpolator_model="rife", num_interpolated_frames=0).ok


@pytest.mark.parametrize(
    ("field", "ability"),
    [
        ("enable_safety_checker", "safety_checker"),
        ("enable_output_safety_checker", "safety_checker"),
        ("enable_prompt_expansion", "prompt_expander"),
    ],
)
def test_switch_is_impossible_only_when_on_and_not_there(field: str, ability: str) -> None:
    assert finding(report(**{field: True}), field).status == "impossible"
    assert finding(report(**{field: False}), field).status == "supported"
    assert finding(report(), field).status == "supported"
    there = report(abilities=LocalAbilities(**{ability: True}), **{field: True})
    assert finding(there, field).status == "supported"


def test_runner_without_loras_or_reverse_refuses_them() -> None:
    bare = LocalAbilities(loras=False, reverse=False)
    asked = report(abilities=bare, loras=[{"path": "a"}], reverse_video=True)
    assert {problem.field for problem in asked.problems} == {"loras", "reverse_video"}


def test_toy_has_its_own_sizes_and_clip_length() -> None:
    toy = report(TOY, resolution="480p", aspect_ratio="9:16")
    assert finding(toy, "resolution").used == "64x112"
    assert finding(toy, "num_frames").used == 17
    assert finding(report(TOY, num_frames=33), "num_frames").status == "supported"


def test_one_expert_takes_the_default_of_the_second_scale_but_no_demand() -> None:
    assert finding(report(ONE_EXPERT), "guidance_scale_2").status == "adjusted"
    assert finding(report(ONE_EXPERT, guidance_scale_2=2.0), "guidance_scale_2").status == "impossible"


def test_one_expert_has_no_low_expert_for_a_lora() -> None:
    assert report(ONE_EXPERT, loras=[{"path": "a"}]).ok
    (problem,) = report(ONE_EXPERT, loras=[{"path": "a"}, {"path": "b", "transformer": "low"}]).problems
    assert problem.field == "loras"
    assert "loras[1].transformer" in problem.fix


def test_model_of_another_task_is_refused() -> None:
    (problem,) = report(FAMILIES["wan2.2-i2v-a14b"]).problems
    assert problem.field == "model"


def test_frames_between_an_older_and_the_newest_limit_warn() -> None:
    assert "from 17 to 121" in finding(report(num_frames=141), "num_frames", "warning").reason
    assert not [item for item in report(num_frames=121).findings if item.status == "warning"]


def test_very_fast_video_warns_and_is_not_slowed() -> None:
    fast = report(frames_per_second=60, num_interpolated_frames=4)
    assert "300" in finding(fast, "frames_per_second", "warning").reason
    assert fast.ok
    slow = report(frames_per_second=60, num_interpolated_frames=4, adjust_fps_for_interpolation=False)
    assert not [item for item in slow.findings if item.status == "warning"]


def test_negative_prompt_without_any_guidance_warns() -> None:
    silent = report(negative_prompt="blur", guidance_scale=1, guidance_scale_2=1)
    assert finding(silent, "negative_prompt", "warning")
    half = report(negative_prompt="blur", guidance_scale=1)
    assert not [item for item in half.findings if item.status == "warning"]


def test_report_is_plain_json_and_reads_well() -> None:
    toy = report(TOY)
    assert json.loads(json.dumps(toy.as_dict()))["ok"] is True
    assert "adjusted: num_frames 81 -> 17" in toy.text()
    assert "price: $0.00" in toy.text()


def test_check_needs_no_model() -> None:
    assert check(t2v_request(prompt="a")).model is None


def test_unknown_runner_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="runner"):
        check(t2v_request(prompt="a"), runner="fal")
