"""A limit belongs to who has it: a provider refuses what is outside its own, this machine takes it."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.plan import FAMILIES, make_plan
from wan_duet.pipelines.plan.families import default_family
from wan_duet.pipelines.plan.sigmas import dpmpp_grid, unipc_grid
from wan_duet.pipelines.request import KINDS, check, field_table, for_novita
from wan_duet.pipelines.request.limits import newest_limit

from .any_kind import request

HERE = {"image_url": "b.png", "video_url": "b.mp4", "audio_url": "b.wav"}

OUTSIDE: list[tuple[str, str, Any, str]] = [
    ("text-to-video", "num_frames", 5, "from 17 to 161"),
    ("text-to-video", "num_frames", 241, "from 17 to 161"),
    ("text-to-video", "frames_per_second", 3, "from 4 to 60"),
    ("text-to-video", "num_inference_steps", 1, "from 2 to 40"),
    ("text-to-video", "num_inference_steps", 50, "from 2 to 40"),
    ("text-to-video", "guidance_scale", 0.0, "from 1 to 10"),
    ("text-to-video", "guidance_scale_2", 30.0, "from 1 to 10"),
    ("text-to-video", "shift", 12.0, "from 1 to 10"),
    ("text-to-video", "shift", 0.5, "from 1 to 10"),
    ("text-to-video", "aspect_ratio", "4:3", "one of 16:9, 9:16, 1:1"),
    ("text-to-video", "aspect_ratio", "2.39:1", "one of 16:9, 9:16, 1:1"),
    ("text-to-video", "num_interpolated_frames", 5, "from 0 to 4"),
    ("image-to-video", "aspect_ratio", "5:2", "one of auto, 16:9, 9:16, 1:1"),
    ("image-to-video", "num_frames", 1, "from 17 to 161"),
    ("video-to-video", "shift", 12.0, "from 1 to 10"),
    ("speech-to-video", "num_frames", 82, "from 40 to 120 in multiples of 4"),
    ("speech-to-video", "num_frames", 1, "from 40 to 120 in multiples of 4"),
    ("small-text-to-video", "num_inference_steps", 60, "from 2 to 50"),
    ("legacy-text-to-video", "num_frames", 80, "from 81 to 121"),
    ("legacy-text-to-video", "frames_per_second", 25, "from 4 to 24"),
    ("wan21-text-to-video", "prompt", "a" * 2001, "from 1 to 2000 characters"),
    ("wan21-text-to-video", "steps", 41, "from 1 to 40"),
    ("wan21-text-to-video", "guidance_scale", 11.0, "from 0 to 10"),
    ("wan21-text-to-video", "flow_shift", 12.0, "from 1 to 10"),
    ("wan21-text-to-video", "seed", 10**10, "from -1 to 9999999999"),
    ("wan21-text-to-video", "width", 640, "one of 480, 720, 832, 1280"),
    ("wan21-text-to-video", "height", 832, "give one of 480x832, 832x480"),
    ("wan21-text-to-video", "loras", [{"path": "a/b", "scale": 1.0}] * 4, "3 or less items"),
    ("wan21-text-to-video", "loras", [{"path": "a/b", "scale": 4.1}], "loras[0].scale: novita accepts"),
]


@pytest.mark.parametrize(("kind", "field", "value", "allowed"), OUTSIDE)
def test_the_provider_refuses_it_by_name_and_this_machine_takes_it(
    kind: str, field: str, value: Any, allowed: str
) -> None:
    provider, family = KINDS[kind].provider, default_family(KINDS[kind].task)
    report = check(request(kind, **{field: value}), provider)
    refused = {problem.field: problem.fix for problem in report.problems}
    assert allowed in refused[field]
    assert set(refused) <= {field, "height"}  # another width has another height
    assert report.resolved is None
    here = {name: file for name, file in HERE.items() if name in KINDS[kind].model_fields}
    local = check(request(kind, **{**here, field: value}), family=family)
    assert local.ok, local.text()
    assert "may refuse it" not in local.text()
    make_plan(local.require(), family, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_at_the_end_of_a_limit_is_sent_and_one_beyond_it_is_not(kind: str) -> None:
    cls = KINDS[kind]
    for row in field_table(kind):
        limit = newest_limit(cls.contract, row.name)
        if limit is None or row.type not in ("integer", "number") or limit.choices:
            continue
        step = (limit.multiple_of or 1) if row.type == "integer" else 0.5
        for end, beyond in ((limit.min, -step), (limit.max, step)):
            assert end is not None
            assert check(request(kind, **{row.name: end}), cls.provider).ok
            physical = row.range is None or row.range.min is None or end + beyond >= row.range.min
            physical = physical and (row.name, end + beyond) != ("seed", -1)
            if physical and (row.name != "strength"):
                refused = check(request(kind, **{row.name: end + beyond}), cls.provider).problems
                assert [problem.field for problem in refused] == [row.name]


def test_what_a_conversion_to_novita_may_not_hold_is_refused_by_its_name_here() -> None:
    for values in ({"prompt": "a" * 2001}, {"num_inference_steps": 41}, {"shift": 12.0}, {"seed": 10**10}):
        asked = request("text-to-video", **values)
        assert for_novita(asked) is None
        assert [problem.field for problem in check(asked, "novita").problems] == list(values)
        assert "novita accepts" in check(asked, "novita").text()


def test_an_older_limit_warns_only_where_it_is_one() -> None:
    asked = request("text-to-video", num_frames=141)
    assert "from 17 to 121" in check(asked, "fal").text()
    assert "from 17 to 121" not in check(asked, family=FAMILIES["wan2.2-t2v-a14b"]).text()


@pytest.mark.parametrize(
    ("family", "ratio", "size"),
    [
        ("wan2.2-t2v-a14b", "4:3", (1104, 832)),
        ("wan2.2-t2v-a14b", "16:9", (1280, 720)),
        ("wan2.2-t2v-a14b", "9999:1", (96000, 16)),
        ("wan2.2-t2v-a14b", "2.39:1", (1488, 624)),
        ("wan2.2-t2v-a14b", "1:1.85", (704, 1312)),
        ("wan2.2-t2v-a14b", "0.5625:1", (720, 1280)),
        ("toy", "4:3", (96, 80)),
        ("toy", "9:16", (64, 112)),
    ],
)
def test_any_ratio_has_the_area_of_the_tier(family: str, ratio: str, size: tuple[int, int]) -> None:
    report = check(request("text-to-video", aspect_ratio=ratio), family=FAMILIES[family])
    plan = make_plan(report.require(), FAMILIES[family], 0)
    assert (plan.width, plan.height) == size
    assert f"{size[0]}x{size[1]}" in " ".join(map(str, report.findings))


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 81, 82, 84])
def test_a_clip_of_speech_is_the_next_multiple_of_four_frames(frames: int) -> None:
    family = FAMILIES["wan2.2-s2v-14b"]
    asked = request("speech-to-video", image_url="a.png", audio_url="a.wav", num_frames=frames)
    report = check(asked, family=family)
    clip = -(-frames // 4) * 4
    plan = make_plan(report.require(), family, 0)
    assert plan.frames_generated == clip + 1
    assert (f"{clip}, the next multiple of 4" in str(report.findings)) == (clip != frames)


@pytest.mark.parametrize("grid", [unipc_grid, dpmpp_grid])
@pytest.mark.parametrize("shift", [1e-6, 0.001, 1.0, 10_000])
def test_no_two_noise_levels_are_one_number(grid: Any, shift: float) -> None:
    for steps in (2, 50, 1000):
        sigmas = grid(steps, shift).sigmas
        assert list(sigmas) == sorted(set(sigmas), reverse=True)


@pytest.mark.parametrize("shift", [1e-7, 10_001, 1e308])
def test_a_shift_that_melts_the_noise_levels_is_refused(shift: float) -> None:
    (problem,) = check(request("text-to-video", shift=shift)).problems
    assert problem.field == "shift"


def test_the_sides_of_novita_s_kind_are_free_here_in_multiples() -> None:
    family = FAMILIES["wan2.1-t2v-14b"]
    asked = check(request("wan21-text-to-video", width=640, height=641), family=family)
    (problem,) = asked.problems
    assert (problem.field, "nearest is 640" in problem.fix) == ("height", True)


def test_one_frame_has_no_last_image() -> None:
    asked = request("image-to-video", image_url="a.png", end_image_url="b.png", num_frames=1)
    (problem,) = check(asked, family=FAMILIES["wan2.2-i2v-a14b"]).problems
    assert problem.field == "end_image_url"
