"""What holds for every request of every kind, drawn from the table that describes the kinds."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, GRIDS, Plan, describe, make_plan
from wan_duet.pipelines.request import KINDS, SEED_MAX, FieldRow, check, field_table, parse

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
LORA = st.fixed_dictionaries(
    {"path": TEXT},
    optional={
        "weight_name": TEXT,
        "scale": st.floats(-4, 4),
        "transformer": st.sampled_from(["high", "low", "both"]),
    },
)
WRONG_TYPE = {
    "string": 1,
    "integer": "81",
    "number": True,
    "boolean": 1,
    "enum": "?",
    "array<LoRAWeight>": "a",
}


def right_value(row: FieldRow) -> st.SearchStrategy[Any]:
    if row.enum is not None:
        return st.sampled_from(row.enum)
    if row.name == "seed":
        return st.integers(0, SEED_MAX)
    low, high = row.range or (None, None)
    return {
        "string": TEXT,
        "boolean": st.booleans(),
        "integer": st.integers(low, high),
        "number": st.floats(low, high, allow_nan=False, allow_infinity=False),
        "array<LoRAWeight>": st.lists(LORA, max_size=3),
    }[row.type]


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind, and a JSON object for it with any field left out that may be."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    table = field_table(kind)
    required = {row.name: right_value(row) for row in table if row.required}
    optional = {row.name: right_value(row) for row in table if not row.required}
    return kind, draw(st.fixed_dictionaries(required, optional=optional))


@settings(max_examples=100, deadline=None)
@given(requests())
def test_json_to_class_to_json_is_the_identity(drawn: tuple[str, dict[str, Any]]) -> None:
    kind, values = drawn
    request = parse(kind, json.dumps(values))
    payload = request.payload()
    for name in values.keys() - {"loras"}:  # a LoRA gets its defaults filled in
        assert payload[name] == values[name]
    again = parse(kind, json.dumps(payload))
    assert again == request
    assert again.payload() == payload


@settings(max_examples=150, deadline=None)
@given(requests(), st.data())
def test_any_spoiled_field_is_named(drawn: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    kind, values = drawn
    row = data.draw(st.sampled_from(field_table(kind)))
    wrong: list[object] = [object(), {"a": 1}, float("nan"), b"bytes", WRONG_TYPE[row.type]]
    if row.range is not None:
        wrong += [row.range[0] - 1, row.range[1] + 1]
    with pytest.raises(RequestError) as caught:
        parse(kind, {**values, row.name: data.draw(st.sampled_from(wrong))})
    assert [problem.field for problem in caught.value.problems] == [row.name]


@settings(max_examples=200, deadline=None)
@given(requests(), st.sampled_from(sorted(FAMILIES)), st.sampled_from(["unipc", "dpm++", "euler"]))
def test_any_request_is_refused_by_name_or_gives_consistent_numbers(
    drawn: tuple[str, dict[str, Any]], family_name: str, solver: str
) -> None:
    kind, values = drawn
    request, family = parse(kind, values), FAMILIES[family_name]
    report = check(request, family=family)
    if not report.ok:
        with pytest.raises(RequestError) as caught:
            make_plan(request, family, 0, report=report)
        assert {p.field for p in caught.value.problems} <= {*type(request).model_fields, "model"}
        return
    plan = make_plan(request, family, 0, solver=solver, report=report)

    adjusted = {item.field: item.used for item in report.adjustments}
    assert plan.frames_delivered == adjusted.get("num_frames", request.payload()["num_frames"])
    assert 0 <= plan.frames_generated - plan.frames_delivered < 4
    assert plan.frames_generated % 4 == 1
    assert plan.width % family.size_multiple == 0
    assert plan.height % family.size_multiple == 0
    channels, latent_frames, rows, columns = plan.latent_shape
    stride_t, stride_h, stride_w = family.vae_stride
    assert channels == family.latent_channels
    assert (latent_frames - 1) * stride_t + 1 == plan.frames_generated
    assert (rows * stride_h, columns * stride_w) == (plan.height, plan.width)

    steps = request.payload()["num_inference_steps"]
    assert len(plan.timesteps) == len(plan.experts) == len(plan.sigmas) - 1 == steps
    assert plan.sigmas[-1] == 0
    assert list(plan.sigmas) == sorted(set(plan.sigmas), reverse=True)
    assert plan.experts == tuple(sorted(plan.experts))  # "high" before "low"
    assert set(plan.guidance) == ({"high", "low"} if family.experts == 2 else {"high"})
    assert steps <= plan.forwards <= 2 * steps

    gaps = plan.num_interpolated_frames * (plan.frames_delivered - 1)
    assert plan.frames_out == plan.frames_delivered + gaps
    assert (plan.interpolator == "none") == (plan.num_interpolated_frames == 0)
    assert plan.fps_out in (plan.fps, Fraction(plan.fps * (plan.num_interpolated_frames + 1)))
    assert f"{plan.forwards} forwards" in describe(plan)


@settings(max_examples=60, deadline=None)
@given(requests(), st.integers(0, SEED_MAX), st.sampled_from(sorted(GRIDS)))
def test_plan_to_json_to_plan_is_the_identity(
    drawn: tuple[str, dict[str, Any]], seed: int, solver: str
) -> None:
    kind, values = drawn
    if solver == "lightning":
        values["num_inference_steps"] = 4
    request, family = parse(kind, values), FAMILIES["toy"]
    assume(check(request, family=family).ok)
    plan = make_plan(request, family, seed, solver=solver)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
