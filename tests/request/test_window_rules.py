"""Check says what windows and RIFLEx do, where they do nothing, and where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.plan.context_windows import ContextWindows
from wan_duet.pipelines.request import LocalAbilities, Report, check, parse, t2v_request

A14B, SMALL = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["wan2.2-ti2v-5b"]
WINDOW = {"context_frames": 81}
BATCHED = {**WINDOW, "context_schedule": "batched", "context_overlap": 16, "context_stride": 2}


def report(local: dict[str, Any] | None, frames: int = 161, **abilities: Any) -> Report:
    request = t2v_request(prompt="a ball", num_frames=frames, local=local)
    return check(request, family=A14B, abilities=LocalAbilities(**abilities))


def said(of: Report, field: str, status: str = "warning") -> str:
    return "; ".join(
        finding.reason for finding in of.findings if (finding.field, finding.status) == (field, status)
    )


def test_more_frames_than_the_training_had_are_told_with_what_helps() -> None:
    words = said(report(None), "num_frames")
    assert "trained on 81 frames" in words
    assert "local.context_frames" in words
    assert "local.riflex" in words
    assert not said(report(None, 81), "num_frames")
    long = parse("small-text-to-video", {"prompt": "a ball", "num_frames": 161})
    assert "trained on 121 frames" in said(check(long, family=SMALL), "num_frames")
    assert "local." not in said(check(long, "fal"), "num_frames")  # a provider has neither


def test_windows_and_riflex_are_lossy_by_choice_and_quiet_the_warning() -> None:
    made = report(WINDOW)
    words = said(made, "local.context_frames")
    assert "lossy by choice: each step draws about 3 windows of 81 frames" in words
    assert not said(made, "num_frames")
    made = report({"riflex": 6})
    assert "lossy by choice: RIFLEx lowers frequency 6" in said(made, "local.riflex")
    assert not said(made, "num_frames")
    assert "2 times the 81 frames" in said(report({"riflex": 6}, 241), "num_frames")


@pytest.mark.parametrize(
    ("local", "field", "words"),
    [
        ({"context_frames": 161}, "context_frames", "one window has all 161 frames"),
        ({"context_frames": 80}, "context_frames", "80 is not 4n+1, so windows of 77"),
        ({"context_frames": 121}, "context_frames", "trained on 81 frames, and a window has 121"),
        ({"context_overlap": 16}, "context_overlap", "without context_frames"),
        ({"freenoise": False}, "freenoise", "without context_frames"),
        (BATCHED, "context_overlap", "do not overlap"),
        (BATCHED, "context_stride", "schedule batched"),
        ({**WINDOW, "context_closed_loop": True}, "context_closed_loop", "standard_uniform"),
        ({**WINDOW, "context_retain_first": True}, "context_retain_first", "without a first image"),
        ({"riflex_frames": 121}, "riflex_frames", "does nothing while riflex is 0"),
    ],
)  # fmt: skip
def test_a_setting_without_effect_says_so(local: dict[str, Any], field: str, words: str) -> None:
    assert words in said(report(local), f"local.{field}")


@pytest.mark.parametrize("overlap", [84, 400])
def test_an_overlap_as_long_as_the_window_is_refused(overlap: int) -> None:
    made = report({**WINDOW, "context_overlap": overlap})
    assert made.resolved is None
    assert "windows of 81 frames must share fewer" in said(made, "local.context_overlap", "impossible")
    assert report({**WINDOW, "context_overlap": 80}).resolved is not None


def test_small_windows_have_a_small_overlap_of_their_own() -> None:
    for frames in range(1, 40):
        assert report({"context_frames": frames}).resolved is not None


def test_a_model_of_comfyui_has_windows_of_its_own() -> None:
    made = report({**WINDOW, "context_overlap": 16, "riflex": 6}, own_engine=False)
    assert made.resolved is None
    assert "patch the MODEL with Wan Context Windows" in said(made, "local.context_frames", "impossible")
    assert "Wan Context Windows" in said(made, "local.context_overlap", "impossible")
    assert "leave it out" in said(made, "local.riflex", "impossible")


def test_speech_is_made_of_clips_already() -> None:
    request = parse("speech-to-video", {
        "prompt": "she talks", "image_url": "a.png", "audio_url": "a.wav", "local": {**WINDOW, "riflex": 6},
    })  # fmt: skip
    made = check(request, family=FAMILIES["wan2.2-s2v-14b"])
    refused = {problem.field for problem in made.problems}
    assert refused >= {"local.context_frames", "local.riflex"}


def test_there_is_no_step_cache_with_windows() -> None:
    cached = report(WINDOW, step_cache=True)
    assert "every step is computed with local.context_frames" in said(cached, "acceleration", "adjusted")
    assert cached.require().values["acceleration"] == "none"
    assert report(None, step_cache=True).require().values["acceleration"] == "regular"


@pytest.mark.parametrize("schedule", ["standard_static", "batched"])
def test_check_says_how_many_windows_a_step_has(schedule: str) -> None:
    for frames, window, overlap in ((161, 81, 30), (241, 81, 0), (97, 33, 28), (121, 81, 16)):
        local = {"context_frames": window, "context_overlap": overlap, "context_schedule": schedule}
        made = report(local, frames)
        windows = ContextWindows.of_values(made.require().values, (frames - 1) // 4 + 1, 4)
        assert windows is not None
        assert f"about {len(windows.at(0))} windows" in said(made, "local.context_frames")
