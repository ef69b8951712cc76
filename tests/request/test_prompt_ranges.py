"""Ranges of frames with words of their own: as text and as JSON, in latent frames, and what Check says."""

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, make_plan
from wan_duet.pipelines.request import LocalAbilities, Report, check, t2v_request
from wan_duet.pipelines.request.local_settings import LocalSettings
from wan_duet.pipelines.request.prompt_ranges import PromptRange, latent_lengths, texts_of_ranges

from .any_kind import request as request_of

A14B, SPEECH = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["wan2.2-s2v-14b"]
TWO = [{"prompt": "a fox runs", "seconds": 2.0}, {"prompt": "it jumps", "seconds": 3.0}]


def read(ranges: Any) -> LocalSettings:
    local = t2v_request(prompt="x", local={"prompt_ranges": ranges}).local
    assert local is not None
    return local


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("2s: a fox runs | 3s: it jumps", TWO),
        ("0-2s: a fox runs | 2-5s: it jumps", TWO),
        ("0 - 2 s: a fox runs\n2-5s : it jumps", TWO),
        ("33f: a | b", [{"prompt": "a", "num_frames": 33}, {"prompt": "b"}]),
        ("0-0.1s: a|0.1-0.3s: b", [{"prompt": "a", "seconds": 0.1}, {"prompt": "b", "seconds": 0.2}]),
        (r"a\|b: c | d", [{"prompt": "a|b: c"}, {"prompt": "d"}]),
    ],
)
def test_text_is_another_form_of_the_list(text: str, ranges: list[dict[str, Any]]) -> None:
    assert read(text) == read(ranges)
    assert read(text).asked() == {"prompt_ranges": ranges}


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        ("3sec: a | b", "local.prompt_ranges: got '3sec: a | b' (text); range 1: '3sec' is no length; write"),
        ("0-2s: a | 3-5s: b", "range 2: '3-5s' must begin where the one before ends"),
        ("0-2s: a | 2-2s: b", "range 2: '2-2s' must begin"),
        ("2s: a | 2-5s: b", "range 2: '2-5s' must begin"),
        ("2s continue: a | b", "local.prompt_ranges[0].join: there is no such field"),
        ([{"seconds": 2.0}], "local.prompt_ranges[0].prompt: missing"),
        ([{"prompt": "a", "seconds": 0}], "local.prompt_ranges[0].seconds: got 0"),
        ([3], 'local.prompt_ranges[0]: got 3 (whole number); give an object such as {"prompt"'),
        (3, "local.prompt_ranges: got 3"),
    ],
)
def test_what_is_no_list_of_ranges_is_named(ranges: Any, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(ranges)
    assert says in str(caught.value)


def test_each_range_is_the_prompt_and_then_its_words() -> None:
    ranges = read([{"prompt": " it jumps "}, {"prompt": " "}]).prompt_ranges
    assert texts_of_ranges("A fox. ", ranges) == {
        "local.prompt_ranges[0].prompt": "A fox. it jumps",
        "local.prompt_ranges[1].prompt": "A fox. ",
    }


@pytest.mark.parametrize(
    ("ranges", "frames", "fps", "lengths"),
    [
        ("2s: a | 3s: b", 81, 16, (9, 12)),  # 32 frames become 33
        ("2s: a | 3s: b", 121, 24, (13, 18)),
        ("a | b | c", 81, 16, (8, 7, 6)),
        ("a | 1s: b | c", 81, 16, (9, 4, 8)),
        ("33f: a | b", 79, 16, (9, 12)),  # 81 frames are made of it
        ("a", 1, 16, (1,)),
    ],
)
def test_seconds_become_latent_frames(ranges: str, frames: int, fps: float, lengths: tuple[int, ...]) -> None:
    assert latent_lengths(read(ranges).prompt_ranges, frames, fps) == lengths


@given(
    st.lists(st.none() | st.integers(1, 60) | st.floats(0.05, 5), min_size=1, max_size=5),
    st.integers(1, 200),
    st.sampled_from([8, 16, 24]),
)
@settings(max_examples=150, deadline=None)
def test_ranges_fill_the_clip_in_order_or_are_refused(lengths: list[Any], frames: int, fps: int) -> None:
    ranges = [
        PromptRange(prompt="a", num_frames=one)
        if isinstance(one, int)
        else PromptRange(prompt="a", seconds=one)
        for one in lengths
    ]
    try:
        found = latent_lengths(ranges, frames, fps)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
        assert sum(found) == -(-(frames - 1) // 4) + 1
        assert min(found) >= 1
        stated = list(takewhile(lambda length: length is not None, (one.length(fps) for one in ranges)))
        for number, end in enumerate(accumulate(filter(None, stated)), 1):
            border = (sum(found[:number]) - 1) * 4 + 1
            assert 0 <= border - max(round(end), 1) < 4  # the next 4n + 1 frames
    assert not refused or "prompt_ranges[" in refused or f"of {frames} frames" in refused


def report(local: dict[str, Any], family: Any = A14B, kind: str = "", **values: Any) -> Report:
    if kind:
        return check(request_of(kind, local=local), family=family)
    own = values.pop("own_engine", True)
    request = t2v_request(**{"prompt": "a wood", "num_frames": 81, **values, "local": local})
    return check(request, family=family, abilities=LocalAbilities(own_engine=own))


def said(of: Report, field: str, status: str) -> str:
    found = [item for item in of.findings if (item.field, item.status) == (f"local.{field}", status)]
    return "; ".join(item.reason for item in found)


def test_check_says_which_frames_each_range_has() -> None:
    told = report({"prompt_ranges": TWO})
    assert said(told, "prompt_ranges", "warning") == "frames 0-32: 'a fox runs', frames 33-80: 'it jumps'"
    assert "attends to the prompt of the request" in said(told, "prompt_ranges", "supported")


@pytest.mark.parametrize(
    ("local", "changed", "field", "says"),
    [
        ({"prompt_ranges": "2s: a | 4s: b"}, {}, "prompt_ranges", "have 96 of 81 frames at 16 fps"),
        ({"prompt_ranges": "2s: a | 1s: b"}, {}, "prompt_ranges", "have 48 of 81 frames"),
        ({"prompt_ranges": "6s: a | b"}, {}, "prompt_ranges", "have 96 of 81 frames"),
        ({"prompt_ranges": "5s: a | b"}, {}, "prompt_ranges", "[1]: has no latent frame"),
        ({"prompt_ranges": "30f: a | 2f: b | c"}, {}, "prompt_ranges", "[1]: has no latent frame"),
        (
            {"prompt_ranges": [{"prompt": "a", "seconds": 2.0, "num_frames": 33}]}, {}, "prompt_ranges",
            "prompt_ranges[0].seconds: given beside num_frames",
        ),
        ({"prompt_ranges": "1s: a | b", "prompt_overlap": 24}, {}, "prompt_overlap", "has 5 latent frames"),
        ({"prompt_ranges": "a | b"}, {"own_engine": False}, "prompt_ranges", "one of ComfyUI"),
        ({"prompt_overlap": 8}, {"own_engine": False}, "prompt_overlap", "one of ComfyUI"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    local: dict[str, Any], changed: dict[str, Any], field: str, says: str
) -> None:
    told = report(local, **changed)
    assert told.resolved is None
    assert says in said(told, field, "impossible")


def test_speech_has_one_prompt() -> None:
    told = report({"prompt_ranges": "a | b"}, SPEECH, "speech-to-video")
    assert "one prompt" in said(told, "prompt_ranges", "impossible")


@pytest.mark.parametrize(
    ("local", "values", "field", "says"),
    [
        ({"prompt_overlap": 8}, {}, "prompt_overlap", "does nothing without two prompt_ranges"),
        ({"prompt_ranges": "a | b", "prompt_overlap": 3}, {}, "prompt_overlap", "below 4 frames"),
        ({"prompt_ranges": "a | b"}, {"reverse_video": True}, "prompt_ranges", "begins with the last range"),
    ],
)
def test_what_may_surprise_is_told(
    local: dict[str, Any], values: dict[str, Any], field: str, says: str
) -> None:
    assert says in said(report(local, **values), field, "warning")


def test_a_plan_has_as_many_forwards_as_without_and_says_the_latent_frames() -> None:
    made, plain = (
        make_plan(report(local).require(), A14B, 0)
        for local in ({"prompt_ranges": TWO, "prompt_overlap": 8}, {})
    )
    assert made.forwards == plain.forwards
    assert made.as_dict()["prompt_relay"] == {"latent_frames": [9, 12], "overlap": 2}
    assert "prompt_relay" not in plain.as_dict()


def test_long_words_and_syntax_are_told_of_each_range() -> None:
    request = t2v_request(prompt="a wood", local={"prompt_ranges": f"a (red:1.4) fox | {'fox ' * 600}"})
    abilities = LocalAbilities(count_tokens=lambda text: len(text.split()) + 1)
    found = {item.field: item.reason for item in check(request, family=A14B, abilities=abilities).findings}
    assert "local.prompt_syntax" in found["local.prompt_ranges[0].prompt"]
    assert "the last 91 are cut" in found["local.prompt_ranges[1].prompt"]
