"""Container, codec, bit depth and cuts of a local run: what is refused, what is idle, what is planned."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from wan_duet.pipelines.plan import FAMILIES, Plan, make_plan
from wan_duet.pipelines.plan.stored_video import StoredVideo
from wan_duet.pipelines.request import Report, check, parse, t2v_request
from wan_duet.pipelines.request.result_formats import CODECS_OF, CodecName, ContainerName
from wan_duet.pipelines.video.containers import CONTAINERS

A14B = FAMILIES["wan2.2-t2v-a14b"]


def report(local: dict[str, Any], **values: Any) -> Report:
    return check(t2v_request(prompt="a ball", local=local, **values), family=A14B)


def planned(local: dict[str, Any], **values: Any) -> Plan:
    return make_plan(report(local, **values).require(), A14B, 0)


def warnings(made: Report) -> dict[str, str]:
    return {each.field: each.reason for each in made.findings if each.status == "warning"}


def test_the_containers_hold_what_the_writers_write() -> None:
    assert {name: CONTAINERS[name].codecs for name in get_args(ContainerName)} == dict(CODECS_OF)
    assert set(get_args(CodecName)) == {"auto"}.union(*CODECS_OF.values())


@pytest.mark.parametrize(
    ("local", "fix"),
    [
        ({"codec": "prores"}, "a .mp4 file holds h264, h265, av1; give container mov"),
        ({"codec": "prores-4444"}, "give container mov"),
        ({"codec": "av1", "container": "mov"}, "give container mp4"),
    ],
)
def test_a_codec_that_the_container_does_not_hold_is_refused_by_name(local: dict[str, Any], fix: str) -> None:
    (problem,) = report(local).problems
    assert problem.field == "local.codec"
    assert fix in problem.fix


def test_the_plan_has_the_choices_and_none_where_all_are_usual() -> None:
    local = {"container": "mov", "codec": "h265", "bit_depth": 10, "scene_threshold": 1.0}
    plan = planned(local)
    assert plan.output == "mov"
    assert plan.file == StoredVideo("h265", 10, 1.0)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    usual = planned({})
    assert usual.file is None
    assert "file" not in usual.as_dict()
    assert planned({"nag_scale": 5}).file is None


def test_what_is_sampled_does_not_depend_on_the_file() -> None:
    """A run that differs in the file alone uses the latents of the run before."""
    plain, other = report({}).require(), report({"codec": "h265", "scene_threshold": 0.5}).require()
    more = {name: value for name, value in other.values.items() if name not in plain.values}
    assert more == {"container": "mp4", "codec": "h265", "bit_depth": 8, "scene_threshold": 0.5}


def test_cuts_without_new_frames_do_nothing() -> None:
    asked = {"scene_threshold": 0.5}
    idle = {"local.scene_threshold": "does nothing: no frames are interpolated"}
    assert idle.items() <= warnings(report(asked, interpolator_model="none")).items()
    assert idle.items() <= warnings(report(asked, num_interpolated_frames=0)).items()
    assert "local.scene_threshold" not in warnings(report(asked, interpolator_model="film"))


def test_an_image_has_none_of_it() -> None:
    local = {"codec": "h265", "container": "mov", "bit_depth": 10, "scene_threshold": 0.5}
    made = check(parse("text-to-image", {"prompt": "a", "local": local}), family=A14B)
    assert {f"local.{name}" for name in local} <= set(warnings(made))
    plan = make_plan(made.require(), A14B, 0)
    assert (plan.output, plan.file) == ("png", None)


@pytest.mark.parametrize(
    ("local", "says"),
    [
        ({"codec": "vp9"}, "give one of auto, h264, h265, av1, prores, prores-4444"),
        ({"container": "webm"}, "give one of mp4, mov"),
        ({"bit_depth": 12}, "give one of 8, 10"),
        ({"scene_threshold": 2}, "give a number from 0 to 1"),
    ],
)
def test_a_wrong_choice_is_named(local: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=next(iter(local))) as caught:
        report(local)
    assert says in str(caught.value)
