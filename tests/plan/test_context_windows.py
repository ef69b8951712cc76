"""Every frame of a clip is in a window of each step, with weights that sum to 1; the plan counts windows."""

from __future__ import annotations

import json
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.plan import FAMILIES, Plan, describe, make_plan
from wan_duet.pipelines.plan.context_windows import ContextWindows, at_once, steps_of_stages
from wan_duet.pipelines.plan.fuse_weights import shares
from wan_duet.pipelines.plan.window_schedules import windows_of
from wan_duet.pipelines.request import check, t2v_request
from wan_duet.pipelines.request.window_settings import FuseName, ScheduleName

A14B = FAMILIES["wan2.2-t2v-a14b"]
SCHEDULES, FUSES = get_args(ScheduleName), get_args(FuseName)


@st.composite
def clips(draw: st.DrawFn) -> dict[str, Any]:
    length = draw(st.integers(1, 24))
    return {
        "schedule": draw(st.sampled_from(SCHEDULES)),
        "frames": draw(st.integers(1, 80)),
        "length": length,
        "overlap": draw(st.integers(0, length - 1)),
        "step": draw(st.integers(0, 60)),
        "stride": draw(st.integers(1, 4)),
        "closed_loop": draw(st.booleans()),
    }


@given(clips(), st.sampled_from(FUSES))
def test_every_frame_is_drawn_at_every_step_and_its_shares_sum_to_1(clip: dict[str, Any], fuse: Any) -> None:
    windows, frames = windows_of(**clip), clip["frames"]
    assert {frame for window in windows for frame in window} == set(range(frames))
    assert all(len(window) <= clip["length"] for window in windows)
    totals = np.zeros(frames)
    of_windows = shares(fuse, windows, frames, clip["overlap"])
    for window, share in zip(windows, of_windows, strict=True):
        assert share.min() >= 0
        np.add.at(totals, np.array(window), share)
    assert np.allclose(totals, 1, atol=1e-12)


def test_static_windows_overlap_by_as_much_as_asked_and_end_with_the_clip() -> None:
    windows = windows_of("standard_static", 41, 21, 7, step=3, stride=1, closed_loop=False)
    assert [(window[0], window[-1]) for window in windows] == [(0, 20), (14, 34), (20, 40)]


def test_uniform_windows_begin_elsewhere_at_each_step() -> None:
    begins = [windows_of("standard_uniform", 41, 21, 7, step, 1, False)[0][0] for step in range(4)]
    assert begins == [0, 20, 10, 20]


def test_a_looped_clip_continues_at_its_beginning() -> None:
    windows = windows_of("looped_uniform", 41, 21, 7, step=0, stride=1, closed_loop=True)
    assert any(window[-1] < window[0] for window in windows)


def planned(**local: Any) -> Plan:
    request = t2v_request(prompt="a ball", num_frames=161, num_inference_steps=10, **local)
    return make_plan(check(request, family=A14B).require(), A14B, 0)


def test_the_plan_counts_the_forwards_of_all_windows_and_the_tokens_of_one() -> None:
    plain = planned()
    made = planned(local={"context_frames": 81, "context_schedule": "standard_static"})
    assert plain.context_windows is None
    assert made.context_windows is not None
    assert (made.context_windows.frames, made.context_windows.length, made.context_windows.overlap) == (
        41,
        21,
        7,
    )
    assert made.forwards == 3 * plain.forwards
    assert made.tokens * 41 == plain.tokens * 22  # a window, and the frame before it
    assert made.latent_shape == plain.latent_shape
    assert at_once((1, *made.latent_shape), made.context_windows) == (1, 16, 22, *made.latent_shape[2:])
    assert "in windows of 21 of 41 latent frames" in describe(made)
    assert Plan.from_dict(json.loads(json.dumps(made.as_dict()))) == made


def test_a_uniform_plan_counts_the_windows_of_each_step() -> None:
    made = planned(local={"context_frames": 81})
    windows = made.context_windows
    assert windows is not None
    by_hand = [
        len(windows_of("standard_uniform", 41, 21, 7, step, 1, False))
        for step in steps_of_stages(made.experts)
    ]
    assert len(set(by_hand)) > 1
    assert made.forwards == 2 * sum(by_hand)


def test_steps_are_counted_anew_in_each_stage() -> None:
    assert steps_of_stages(["high", "high", "low", "low", "low"]) == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("frames", [161, 200])
def test_a_window_as_long_as_the_clip_is_none(frames: int) -> None:
    made = planned(local={"context_frames": frames})
    assert made == planned()
    assert "context_windows" not in made.as_dict()


def test_riflex_has_the_length_of_what_an_expert_sees_at_once_unless_told() -> None:
    assert planned(local={"riflex": 6}).riflex.frames == 41  # type: ignore[union-attr]
    assert planned(local={"riflex": 6, "context_frames": 81}).riflex.frames == 22  # type: ignore[union-attr]
    told = planned(local={"riflex": 4, "riflex_frames": 121})
    assert told.riflex is not None
    assert (told.riflex.k, told.riflex.frames) == (4, 31)
    assert told.riflex.frequency == pytest.approx(0.9 * 2 * np.pi / 31)
    assert told.forwards == planned().forwards
    assert Plan.from_dict(json.loads(json.dumps(told.as_dict()))) == told


def test_windows_of_a_receipt_with_unknown_keys_are_refused() -> None:
    made = planned(local={"context_frames": 81}).context_windows
    assert made is not None
    with pytest.raises(TypeError):
        ContextWindows.from_dict({**made.as_dict(), "depth": 1})
