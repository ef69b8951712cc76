"""A check refuses what the plan of the run would refuse."""

from __future__ import annotations

import json

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.plan.planned_report import planned_report
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.check import check

NO_LOW_STEP = {"prompt": "a ball", "local": {"boundary": 0.0, "phases": "3.5, 1"}}


def test_a_phase_without_a_step_is_refused_by_name() -> None:
    report = check(parse("text-to-video", NO_LOW_STEP), family=FAMILIES["toy"])
    assert report.ok
    planned = planned_report(report, FAMILIES["toy"])
    assert planned.resolved is None
    assert [problem.field for problem in planned.problems] == ["local.phases[1].steps"]


def test_what_a_plan_takes_stays_as_it_is() -> None:
    report = check(parse("text-to-video", {"prompt": "a ball"}), family=FAMILIES["toy"])
    assert planned_report(report, FAMILIES["toy"]) is report
    video = parse("video-to-video", {"prompt": "a ball", "video_url": "a.mp4"})
    unknown = check(video, family=FAMILIES["wan2.2-t2v-a14b"])
    assert planned_report(unknown, FAMILIES["wan2.2-t2v-a14b"]) is unknown


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--prompt", "a ball", "--local-boundary", "0", "--local-phases", "3.5, 1"]
    assert main(["check", "--model", "toy", "--json", *flags]) == 2
    found = json.loads(capsys.readouterr().out)["findings"]
    assert "local.phases[1].steps" in [one["field"] for one in found if one["status"] == "impossible"]
