"""One request for several shots becomes a request for each, and is checked as a whole."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan.families import FAMILIES
from wan_duet.pipelines.request import check, check_all, json_schema, parse
from wan_duet.pipelines.request.joins import Join, read_join
from wan_duet.pipelines.request.prices import estimate
from wan_duet.pipelines.request.shots import FilmShot, shots_of
from wan_duet.pipelines.request.storyboard import read_storyboard

TEXT, IMAGE = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["wan2.2-i2v-a14b"]
FOX = "5s: a fox runs | 3s continue: it jumps | 33f dissolve 8: a red ball"


def film(storyboard: str = FOX, **values: Any) -> list[FilmShot]:
    return shots_of(parse("shots", {"storyboard": storyboard, **values}))


def problem(values: dict[str, Any]) -> str:
    with pytest.raises(RequestError) as caught:
        shots_of(parse("shots", values))
    return str(caught.value)


def test_a_storyboard_says_length_join_and_prompt() -> None:
    assert read_storyboard(FOX) == [
        {"seconds": 5.0, "prompt": "a fox runs"},
        {"seconds": 3.0, "join": "continue", "prompt": "it jumps"},
        {"num_frames": 33, "join": "dissolve 8", "prompt": "a red ball"},
    ]


@pytest.mark.parametrize(
    "prompt", ["a fox", "5 foxes: run", "Note: hi", "3D render", "continuing", "12sheep: x"]
)
def test_what_is_no_head_belongs_to_the_prompt(prompt: str) -> None:
    assert read_storyboard(prompt) == [{"prompt": prompt}]


def test_lines_separate_shots_too_and_a_backslash_keeps_a_bar() -> None:
    assert read_storyboard("a\n\ncut: b \\| c|") == [{"prompt": "a"}, {"join": "cut", "prompt": "b | c"}]


@pytest.mark.parametrize(
    "prompt", ["a {red|blue} ball", "a {red|{dark|light} blue} ball", "a [red|blue] ball"]
)
def test_a_bar_between_choices_separates_no_shots(prompt: str) -> None:
    assert read_storyboard(f"5s: {prompt} | b") == [{"seconds": 5.0, "prompt": prompt}, {"prompt": "b"}]
    report = check(parse("shots", {"storyboard": f"5s: {prompt} | b"}), "fal")
    assert [one.field for one in report.findings if one.status == "warning"] == ["shots[0].prompt"]


words = st.text(
    st.characters(codec="ascii", exclude_characters=":|\\", categories=("L", "N", "Zs")), min_size=1
)
lengths = st.one_of(
    st.just({}),
    st.integers(1, 999).map(lambda frames: {"num_frames": frames}),
    st.integers(1, 600).map(lambda seconds: {"seconds": float(seconds)}),
)
joins = st.sampled_from(["cut", "continue", "dissolve 3"])


@given(st.lists(st.tuples(lengths, joins, words.filter(str.strip)), min_size=1, max_size=5))
def test_every_storyboard_that_is_written_is_read(shots: list[tuple[dict[str, Any], str, str]]) -> None:
    def written(length: dict[str, Any], join: str, prompt: str) -> str:
        head = "".join(f"{value:g}{'f' if name == 'num_frames' else 's'} " for name, value in length.items())
        return f"{head}{join}: {prompt}"

    text = "|".join(written(*shot) for shot in shots)
    expected = [{**length, "join": join, "prompt": prompt.strip()} for length, join, prompt in shots]
    assert read_storyboard(text) == expected


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_word(text: str) -> None:
    with suppress(RequestError):
        assert all(shot["prompt"].strip() for shot in read_storyboard(text))


@pytest.mark.parametrize(
    ("text", "join"),
    [
        ("cut", Join("cut")),
        ("continue", Join("continue")),
        ("overlap 9", Join("overlap", 9)),
        ("dissolve 4", Join("dissolve", 4)),
    ],
)
def test_joins_are_read_and_written(text: str, join: Join) -> None:
    assert read_join(text, "join") == join
    assert join.text() == text


@pytest.mark.parametrize(
    "text", ["", "wipe", "dissolve", "dissolve 0", "dissolve x", "cut 3", "overlap 4", "overlap 1"]
)
def test_other_joins_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="give cut, continue, overlap N"):
        read_join(text, "join")


def test_each_shot_is_a_request_of_its_kind() -> None:
    shots = film(seed=7, negative_prompt="grey")
    assert [shot.request.kind for shot in shots] == ["text-to-video", "image-to-video", "text-to-video"]
    assert [shot.request.seed for shot in shots] == [7, 8, 9]  # type: ignore[attr-defined]
    assert [shot.request.num_frames for shot in shots] == [81, 49, 33]  # type: ignore[attr-defined]
    assert [shot.frames for shot in shots] == [81, 48, 25]
    assert {shot.request.negative_prompt for shot in shots} == {"grey"}  # type: ignore[attr-defined]


def test_a_shot_overrides_the_whole_and_loras_choose_its_kind() -> None:
    shots = [
        {"prompt": "a", "loras": [{"path": "x.safetensors"}], "guidance_scale": 2.0, "seed": 5},
        {"prompt": "b"},
    ]
    first, second = shots_of(parse("shots", {"shots": shots, "guidance_scale": 4.0, "seed": 1}))
    assert first.request.kind == "text-to-video-lora"
    assert second.request.kind == "text-to-video"
    assert [shot.request.guidance_scale for shot in (first, second)] == [2.0, 4.0]  # type: ignore[attr-defined]
    assert [shot.request.seed for shot in (first, second)] == [5, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "storyboard: not given"),
        ({"storyboard": "a", "shots": [{"prompt": "b"}]}, "storyboard: given together with shots"),
        ({"storyboard": "continue: a"}, "shots[0].join: got 'continue'"),
        ({"storyboard": "a | 5s contine: b"}, "shots[1].join: got 'contine'"),
        ({"storyboard": "5f: a | 1f continue: b"}, "shots[1].join: takes 1 frames"),
        ({"storyboard": "5f: a | 5f dissolve 5: b"}, "shots[1].join: takes 5 frames"),
        ({"shots": [{"prompt": "a", "seconds": 1.0, "num_frames": 9}]}, "shots[0].seconds: given together"),
        (
            {"shots": [{"prompt": "a"}, {"prompt": "b", "join": "continue", "image_url": "x.png"}]},
            "shots[1].image_url",
        ),
        ({"shots": [{"prompt": " "}]}, "shots[0].prompt: got ' '"),
        ({"storyboard": "a", "frames_per_second": 0}, "frames_per_second: got 0"),
        ({"storyboard": "5s:"}, "storyboard: shot 1"),
        ({"storyboard": "5sec: a"}, "storyboard: shot 1: '5sec' is no length"),
        ({"storyboard": "a | -3s: b"}, "storyboard: shot 2: '-3s' is no length"),
        ({"storyboard": "1/2s: a"}, "storyboard: shot 1: '1/2s' is no length"),
        ({"storyboard": "5s, continue: a"}, "storyboard: shot 1: '5s, continue' is no length"),
        ({"shots": [{"prompt": "a", "end_image_url": "x.png"}]}, "shots[0].end_image_url: given to a shot"),
        ({"shots": ["a"]}, "shots[0]: got 'a' (text); give an object such as {"),
        ({"shots": {"prompt": "a"}}, "shots: got {'prompt': 'a'} (object); give a list of objects such as"),
    ],
)
def test_errors_name_shot_and_field(values: dict[str, Any], field: str) -> None:
    assert problem(values).startswith(field)


def test_the_check_names_shots_and_says_what_seconds_become() -> None:
    report = check(parse("shots", {"storyboard": FOX, "seed": 1}), family=TEXT, image_family=IMAGE)
    assert report.ok
    changed = {item.field: item.used for item in report.adjustments}
    assert changed["shots[0].seconds"] == pytest.approx(81 / 16, abs=1e-3)
    assert changed["shots[1].seconds"] == pytest.approx(49 / 16, abs=1e-3)
    assert not {"resolution", "aspect_ratio", "local.width"} & changed.keys()  # of the later shots


def test_loras_of_shots_are_checked_for_every_runner() -> None:
    shots = [{"prompt": "a", "loras": [{"path": "hf/lora"}]}, {"prompt": "b", "loras": [{"path": "hf/lora"}]}]
    reports = check_all(parse("shots", {"shots": shots}), ("local", "fal", "novita"))
    found = [finding.field for finding in reports[1].findings]
    assert {"shots[0].loras", "shots[1].loras"} <= set(found)
    assert found.count("resolution") == 1


@pytest.mark.parametrize(("length", "asked"), [({"seconds": 3}, 3.0), ({"num_frames": 33}, 33)])
def test_a_length_that_a_provider_cannot_have_is_told_as_it_was_given(
    length: dict[str, Any], asked: float
) -> None:
    report = check(parse("shots", {"shots": [{"prompt": "a", **length}]}), "novita")
    (name,) = length
    refused = [(found.field, found.asked) for found in report.findings if found.status == "impossible"]
    assert refused == [(f"shots[0].{name}", asked)]


def test_novita_names_the_join_that_it_cannot_make() -> None:
    report = check(parse("shots", {"storyboard": "a | continue: b"}), "novita")
    assert [problem.field for problem in report.problems] == ["shots[1].join"]
    assert check(parse("shots", {"storyboard": "a | dissolve 5: b"}), "novita").ok


def test_a_model_that_cannot_continue_is_refused() -> None:
    report = check(parse("shots", {"storyboard": FOX}), family=TEXT)
    assert [problem.field for problem in report.problems] == ["model"]


def test_an_overlap_is_for_this_machine_alone() -> None:
    request = parse("shots", {"storyboard": "17f: a | 17f overlap 5: b"})
    assert check(request, family=TEXT, image_family=IMAGE).ok
    assert [problem.field for problem in check(request, "fal").problems] == ["shots[1].join"]


def test_one_family_may_do_both() -> None:
    assert check(parse("shots", {"storyboard": FOX}), family=FAMILIES["wan2.2-ti2v-5b"]).ok


def test_the_price_is_that_of_all_shots() -> None:
    request = parse("shots", {"storyboard": FOX})
    (report,) = check_all(request, ["fal"])
    each = [estimate(shot.request, "fal").usd for shot in shots_of(request)]
    assert report.price.usd == pytest.approx(sum(usd for usd in each if usd is not None))
    assert report.ok


def test_the_schema_has_the_fields_of_shots_and_of_the_whole() -> None:
    schema = json_schema("shots")
    whole = {"shots", "storyboard", "match_colours", "overlap_latents", "resolution", "local"}
    assert whole <= schema["properties"].keys()
    assert not {"prompt", "image_url"} & schema["properties"].keys()
    assert json.dumps(schema)
