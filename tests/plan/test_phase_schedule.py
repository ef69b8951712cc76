"""Phases of a plan: each step has its expert, scale and strengths; two scales are the simplest form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES, Plan, describe, make_plan
from wan_duet.pipelines.plan.phase_schedule import PlannedPhase
from wan_duet.pipelines.request import check, t2v_request

A14B = FAMILIES["wan2.2-t2v-a14b"]
LORA = {"path": "a.safetensors"}


def planned(local: dict[str, Any] | None = None, family: Any = A14B, **values: Any) -> Plan:
    request = t2v_request(prompt="a", seed=1, interpolator_model="none", local=local, **values)
    return make_plan(check(request, family=family).require(), family, 1)


def phases_of(plan: Plan) -> tuple[PlannedPhase, ...]:
    assert plan.phases is not None
    return plan.phases.phases


@pytest.mark.parametrize(
    "phases", ["3.5, 4", "high 12: 3.5, low 15: 4", "high 6: 3.5, high 6: 3.5, low 15: 4"]
)
def test_two_scales_as_phases_are_the_same_plan(phases: str) -> None:
    plain, as_phases = planned(), planned({"phases": phases})
    boundary = None if ":" in phases else plain.boundary  # phases with steps need none
    assert as_phases.as_dict() == {**plain.as_dict(), "boundary": boundary}


def test_phases_without_steps_share_those_of_their_expert() -> None:
    plan = planned({"phases": "3.5, 2, 1, 1"}, num_inference_steps=27)
    assert [(one.expert, one.steps, one.guidance) for one in phases_of(plan)] == [
        ("high", 4, 3.5), ("high", 4, 2.0), ("high", 4, 1.0), ("low", 15, 1.0)
    ]  # fmt: skip
    assert plan.forwards == 2 * (4 + 4) + 4 + 15


def test_three_stages_as_people_run_them() -> None:
    phases = [
        {"expert": "high", "steps": 2, "guidance": 3.5},
        {"expert": "high", "steps": 2, "guidance": 1, "loras": [LORA]},
        {"expert": "low", "steps": 4, "guidance": 1, "loras": [{"path": "b.safetensors", "scale": 0.5}]},
    ]
    plan = planned({"phases": phases}, shift=8.0)
    assert plan.sigmas == planned(num_inference_steps=8, shift=8.0).sigmas
    assert plan.networks == ("high",) * 2 + ("high+1",) * 2 + ("low+1",) * 4
    assert [one.strengths for one in phases_of(plan)] == [(0.0, 0.0), (1.0, 0.0), (0.0, 0.5)]
    assert plan.scales == (3.5, 3.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert plan.forwards == 10
    assert "high: 2 steps (sigma 1.000-0.982) at guidance 3.5, high+1: 2 steps at guidance 1" in describe(
        plan
    )


def test_a_strength_that_comes_back_is_the_same_network() -> None:
    plan = planned(
        {"loras_per_stage": [{**LORA, "high": "0:1, 2:0.5, 3:1", "low": 0}]}, num_inference_steps=9
    )
    assert plan.networks == ("high+1", "high+1", "high+2", "high+1", *("low",) * 5)
    assert plan.phases is not None
    assert list(plan.phases.named) == ["high+1", "high+2", "low"]


@pytest.mark.parametrize(
    ("local", "says"),
    [
        (
            {"loras_per_stage": [{**LORA, "high": [1, 0.5]}]},
            r"loras_per_stage\[0\].high: has 2 values for 12",
        ),
        ({"loras_per_stage": [{**LORA, "low": "0:1, 15:0"}]}, r"low: step 15 is not among the 15 steps"),
        ({"phases": "3, 2, 1", "boundary": 0.999}, r"phases\[1\].steps: has none of the 1 steps of the high"),
    ],
)
def test_what_the_split_of_the_experts_does_not_allow_is_refused(local: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        planned(local)


SCALES = st.sampled_from([1.0, 2.0, 3.5])
PHASE = st.fixed_dictionaries(
    {"steps": st.integers(1, 3)},
    optional={"guidance": SCALES, "loras": st.just([LORA]) | st.just([{**LORA, "scale": 0.5}])},
)


@given(st.lists(PHASE, min_size=1, max_size=4), st.lists(PHASE, min_size=1, max_size=3), st.floats(0.3, 1))
def test_any_phases_are_planned_step_by_step(high: list[Any], low: list[Any], strength: float) -> None:
    """An oracle of its own: one entry a step, from the request alone."""
    phases = [{"expert": name, **one} for name, some in (("high", high), ("low", low)) for one in some]
    steps = [one for one in phases for _ in range(one["steps"])]
    plan = planned({"phases": phases})
    request = {"high": 3.5, "low": 4.0}
    assert plan.experts == tuple(one["expert"] for one in steps)
    assert plan.scales == tuple(one.get("guidance", request[one["expert"]]) for one in steps)
    assert plan.forwards == sum(1 if scale == 1 else 2 for scale in plan.scales)
    loras = [one.get("loras", [{"scale": 0.0}])[0].get("scale", 1.0) for one in steps]
    pairs = list(zip(plan.experts, loras, strict=True))
    assert [plan.networks.index(name) for name in plan.networks] == [pairs.index(pair) for pair in pairs]
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


def test_a_strength_below_1_skips_steps_and_not_scales() -> None:
    from wan_duet.pipelines.sampling.schedule import Sampling

    guidance = [3.5, 1.0, 3.5, 1.0]
    plan = planned({"guidance": guidance})
    skipped = Plan.from_dict({**plan.as_dict(), "start_step": 1})
    assert Sampling.of_plan(skipped).guidance == tuple(guidance[1:])
    assert Sampling.of_plan(skipped).forwards == ("high", "low", "low", "low")
