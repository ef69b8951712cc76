"""What holds for every request of every kind, drawn from the table that describes the kinds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import plan_of

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, GRIDS, Plan, describe, make_plan
from wan_duet.pipelines.request import (
    KINDS,
    LOCAL_KINDS,
    RUNNERS,
    SEED_MAX,
    FieldRow,
    LocalAbilities,
    MediaFacts,
    check,
    field_table,
    for_novita,
    parse,
)
from wan_duet.pipelines.request.image_size import pixels
from wan_duet.pipelines.request.novita_words import SIZE_PAIRS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
ADDRESS = st.sampled_from(["a.png", "data:image/png;base64,AAAA", "https://a.b/c", "sha256:00"])
SIDES = st.tuples(st.integers(1, 160).map(lambda n: 16 * n), st.integers(1, 2000))
SIDE_OF_RATIO = st.integers(1, 40).map(str) | st.decimals("0.1", 40, places=2).map(str)
LARGEST = {"num_frames": 400, "num_inference_steps": 60, "steps": 60}
HAS_NOTHING = LocalAbilities()
HAS_ALL = LocalAbilities(
    interpolators=("flow", "film", "rife"),
    prompt_expander=True,
    safety_checker=True,
    step_cache=True,
)
WRONG_TYPE = {
    "string": 1,
    "integer": "81",
    "number": True,
    "boolean": 1,
    "enum": "?",
    "object": "a",
    "ImageSize|enum": "?",
}


def right_object(fields: Sequence[FieldRow]) -> st.SearchStrategy[dict[str, Any]]:
    required = {row.name: right_value(row) for row in fields if row.required}
    optional = {row.name: right_value(row) for row in fields if not row.required}
    return st.fixed_dictionaries(required, optional=optional)


def right_value(row: FieldRow) -> st.SearchStrategy[Any]:
    if row.type == "ImageSize|enum":
        sides = st.integers(1, 160).map(lambda n: 16 * n) | st.integers(1, 2000)
        size = st.fixed_dictionaries({}, optional={"width": sides, "height": sides})
        return st.sampled_from(row.enum or ()) | size
    if row.enum is not None:
        return st.sampled_from(row.enum)
    if row.media is not None:
        return ADDRESS
    if row.type == "object":
        return right_object(row.fields)
    if row.name == "aspect_ratio":
        ratios = st.tuples(SIDE_OF_RATIO, SIDE_OF_RATIO).map(":".join)
        return st.sampled_from(row.offered) | ratios
    if row.type.startswith("array"):
        return st.lists(right_object(row.fields), max_size=5)
    if row.name == "seed" and row.range is None:
        return st.integers(0, SEED_MAX)
    low, high, above = row.range or (None, None, False)
    high = LARGEST.get(row.name, high)  # few enough to count, and all that the numbers do at more
    return {
        "string": TEXT,
        "boolean": st.booleans(),
        "integer": st.integers(low, high),
        "number": st.floats(low, high, exclude_min=above, allow_nan=False, allow_infinity=False),
    }[row.type]


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind, and a JSON object for it with any field left out that may be."""
    kind = draw(st.sampled_from(sorted(LOCAL_KINDS)))
    values = draw(right_object(field_table(kind)))
    if "width" in values:
        values["width"], values["height"] = draw(st.sampled_from(SIZE_PAIRS) | SIDES)
    return kind, values


def wrong_values(row: FieldRow) -> list[object]:
    wrong: list[object] = [object(), {"a": 1}, float("nan"), b"bytes", WRONG_TYPE.get(row.type, "a")]
    low, high, above = row.range or (None, None, False)
    wrong += ["1:0", "16:9 "] if row.name == "aspect_ratio" else []
    return wrong + [
        bound + step for bound, step in ((low, 0 if above else -1), (high, 1)) if bound is not None
    ]


def family_names(kind: str) -> st.SearchStrategy[str]:
    """Mostly families that can do it."""
    able = [name for name, family in FAMILIES.items() if KINDS[kind].task in family.tasks]
    return st.sampled_from(able) | st.sampled_from(sorted(FAMILIES))


@given(requests())
def test_json_to_class_to_json_is_the_identity(drawn: tuple[str, dict[str, Any]]) -> None:
    kind, values = drawn
    request = parse(kind, json.dumps(values))
    payload = request.payload()
    for row in field_table(kind):
        if row.name in values and not row.fields:  # objects get their defaults filled in
            assert payload[row.name] == values[row.name]
    again = parse(kind, json.dumps(payload))
    assert again == request
    assert again.payload() == payload


@given(requests(), st.data())
def test_any_spoiled_field_is_named(drawn: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    kind, values = drawn
    row = data.draw(st.sampled_from(field_table(kind)))
    with pytest.raises(RequestError) as caught:
        parse(kind, {**values, row.name: data.draw(st.sampled_from(wrong_values(row)))})
    named = {problem.field.split(".")[0].split("[")[0] for problem in caught.value.problems}
    assert named == {row.name}


@given(requests(), st.sampled_from(RUNNERS))
def test_any_check_answers_every_field_or_refuses_the_kind(
    drawn: tuple[str, dict[str, Any]], runner: str
) -> None:
    request = parse(*drawn)
    report = check(request, runner, abilities=HAS_NOTHING)
    answered = [item.field for item in report.findings if item.status != "warning"]
    own = [field for field in answered if field not in ("kind", "model")]
    assert own == [row.name for row in field_table(request.kind)] or (answered == ["kind"] and not report.ok)
    for item in report.adjustments:
        assert item.field == "model" or request.is_preference(item.field)
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    assert report.price.usd is None or report.price.low <= report.price.usd <= report.price.high
    if runner == "novita":
        sent = for_novita(request)
        assert (sent is not None) == report.ok or request.provider == "novita"


@given(requests(), st.data())
def test_any_request_is_refused_by_name_or_gives_consistent_numbers(
    drawn: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    kind, values = drawn
    request, family = parse(kind, values), FAMILIES[data.draw(family_names(kind))]
    media_size = data.draw(st.none() | st.tuples(st.integers(1, 5000), st.integers(1, 5000)))
    solver = data.draw(st.none() | st.sampled_from(["unipc", "dpm++", "euler"]))
    abilities = data.draw(st.sampled_from([HAS_ALL, HAS_NOTHING]))
    report = check(request, family=family, abilities=abilities, media=MediaFacts(size=media_size))
    distilled = {"text-to-video-turbo": 4, "image-to-video-turbo": 4, "small-fast-video": 3}
    if not report.ok or (kind in distilled and solver is not None):
        with pytest.raises(RequestError) as caught:
            make_plan(report.require(), family, 0, solver=solver)
        fields = {problem.field for problem in caught.value.problems}
        assert fields <= {*type(request).model_fields, "model", "solver"}
        return
    plan = make_plan(report.require(), family, 0, solver=solver)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan

    adjusted = {item.field: item.used for item in report.adjustments}
    payload = {**request.payload(), **adjusted}
    if "num_frames" in payload:
        assert plan.frames_delivered == payload["num_frames"]
    assert 0 <= plan.frames_generated - plan.frames_delivered < (8 if kind == "speech-to-video" else 4)
    assert plan.frames_generated % 4 == 1
    assert (plan.output in ("png", "jpeg")) == kind.count("to-image")
    assert plan.frames_delivered == 1 or plan.output == "mp4"
    assert plan.width % family.size_multiple == 0
    assert plan.height % family.size_multiple == 0
    if isinstance(payload.get("image_size"), dict):
        assert (plan.width, plan.height) == pixels(payload["image_size"])
    if "width" in payload:
        assert (plan.width, plan.height) == (payload["width"], payload["height"])
    if plan.size_assumed:
        assert media_size is None
        assert "depends on the input" in describe(plan)
    channels, latent_frames, rows, columns = plan.latent_shape
    stride_t, stride_h, stride_w = family.vae_stride
    assert channels == family.latent_channels
    assert (latent_frames - 1) * stride_t + 1 == plan.frames_generated
    assert (rows * stride_h, columns * stride_w) == (plan.height, plan.width)
    assert plan.tokens * 4 == latent_frames * rows * columns
    assert plan.size_bytes["frames"] == plan.frames_out * plan.width * plan.height * 3

    steps = distilled.get(kind) or payload.get("num_inference_steps") or payload["steps"]
    assert len(plan.timesteps) == len(plan.experts) == len(plan.sigmas) - 1 == steps
    assert plan.sigmas[-1] == 0
    assert list(plan.sigmas) == sorted(set(plan.sigmas), reverse=True)
    assert plan.experts == tuple(sorted(plan.experts))  # "high" before "low"
    assert set(plan.guidance) == ({"high", "low"} if family.experts == 2 else {"high"})
    running = steps - plan.start_step
    assert running == int(steps * payload.get("strength", 1.0))
    assert running <= plan.forwards <= 2 * running

    gaps = plan.num_interpolated_frames * (plan.frames_delivered - 1)
    assert plan.frames_out == plan.frames_delivered + gaps
    assert (plan.interpolator == "none") == (plan.num_interpolated_frames == 0)
    assert plan.fps_out in (plan.fps, Fraction(plan.fps * (plan.num_interpolated_frames + 1)))
    assert f"{plan.forwards} forwards" in describe(plan)


@given(st.integers(0, SEED_MAX), st.sampled_from(sorted(GRIDS)))
def test_plan_to_json_to_plan_is_the_identity(seed: int, solver: str) -> None:
    steps = {"lightning": 4, "dmd": 3, "rcm": 4}.get(solver, 9)
    request = parse("text-to-video", {"prompt": "a", "num_inference_steps": steps})
    plan = plan_of(request, FAMILIES["toy"], seed, solver=solver)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
