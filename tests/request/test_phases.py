"""Phases and guidance of `local`: what can be written, what is refused, and by which name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.plan import FAMILIES
from wan_duet.pipelines.request import Report, check, parse, t2v_request
from wan_duet.pipelines.request.local_settings import LocalSettings
from wan_duet.pipelines.request.step_values import at_each

A14B, ONE_EXPERT = FAMILIES["wan2.2-t2v-a14b"], FAMILIES["wan2.1-t2v-14b"]


def report(local: dict[str, Any], family: Any = A14B, **values: Any) -> Report:
    return check(t2v_request(prompt="a", local=local, **values), family=family)


def refused(of: Report, field: str) -> str:
    return "; ".join(problem.fix for problem in of.problems if problem.field == f"local.{field}")


@pytest.mark.parametrize(
    ("text", "phases"),
    [
        ("3.5, 1, 1", [{"guidance": 3.5}, {"guidance": 1.0}, {"guidance": 1.0}]),
        (
            "high 2: 3.5,low 4: 1",
            [
                {"expert": "high", "steps": 2, "guidance": 3.5},
                {"expert": "low", "steps": 4, "guidance": 1.0},
            ],
        ),
        ("2: 3.5, 1: 1", [{"steps": 2, "guidance": 3.5}, {"steps": 1, "guidance": 1.0}]),
        ("high 3.5 , low 1", [{"expert": "high", "guidance": 3.5}, {"expert": "low", "guidance": 1.0}]),
    ],
)
def test_text_is_the_same_as_its_list(text: str, phases: list[dict[str, Any]]) -> None:
    asked = LocalSettings.model_validate({"phases": text})
    assert asked == LocalSettings.model_validate({"phases": phases})
    assert asked.asked() == {"phases": phases}


@pytest.mark.parametrize(
    ("local", "says"),
    [
        ({"phases": "3.5, low"}, "local.phases: got '3.5, low' (text); give guidance scales such as"),
        ({"phases": "3.5 1"}, "local.phases: got"),
        ({"phases": "2.5: 1"}, "local.phases: got"),
        (
            {"phases": [{"expert": "hihg"}]},
            "local.phases[0].expert: got 'hihg' (text); give one of high, low",
        ),
        ({"phases": [{}, {"steps": 0}]}, "local.phases[1].steps: got 0"),
        ({"phases": [{"guidance": -1}]}, "local.phases[0].guidance: got -1 (whole number); give scales"),
        ({"phases": [{"guidance": "0:2, 0:1"}]}, "local.phases[0].guidance: got '0:2, 0:1'"),
        ({"phases": [{"guidance": "1:2"}]}, "local.phases[0].guidance: got '1:2'"),
        ({"phases": [{"guidance": []}]}, "local.phases[0].guidance: got []"),
        ({"phases": [{"loras": [{"path": "a", "scale": True}]}]}, "local.phases[0].loras[0].scale: got True"),
        ({"phases": [{"loras": [{"scale": 1.0}]}]}, "local.phases[0].loras[0].path: missing"),
        ({"phases": [3]}, 'local.phases[0]: got 3 (whole number); give an object such as {"expert": "high"'),
        ({"phases": [{"expret": "high"}]}, "local.phases[0].expret: there is no such field; did you mean"),
        ({"guidance": [1, -2]}, "local.guidance[1]: got -2"),
        ({"guidance": "1, x"}, "local.guidance: got '1, x' (text); give a list of scales"),
    ],
)
def test_what_cannot_be_read_names_phase_and_field(local: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as raised:
        t2v_request(prompt="a", local=local)
    assert says in str(raised.value)


LORA = {"path": "a.safetensors"}


@pytest.mark.parametrize(
    ("local", "values", "family", "says"),
    [
        ({"phases": "high 2: 1, low 3: 1"}, {"num_inference_steps": 6}, A14B, "2 + 3 = 5, but num_inf"),
        ({"phases": "low 2: 1, high 3: 1"}, {}, A14B, "phases[1].expert: is high after low"),
        ({"phases": "high 2: 1, low 3: 1"}, {}, ONE_EXPERT, "phases[1].expert: is low, but the model"),
        ({"phases": "2: 1"}, {}, A14B, "phases[0].expert: missing in the only phase"),
        ({"phases": "2: 1, 1"}, {}, A14B, "phases[1].steps: is missing, but phases[0].steps is 2"),
        ({"phases": "2: 1, 2: 1", "boundary": 0.5}, {}, A14B, "leave local.boundary out"),
        ({"phases": "2: 1, 2: 1", "high_steps": 1}, {}, A14B, "leave local.high_steps out"),
        ({"phases": "1, 1, 1"}, {"num_inference_steps": 2}, A14B, "3 phases for 2 steps"),
        ({"phases": "2: 1, 1: 1", "guidance": [1, 1, 1]}, {}, A14B, "phases[0].guidance: local.guidance has"),
        ({"phases": [{"guidance": [1, 2]}, {}]}, {}, A14B, "phases[0].guidance: changes from step to step"),
        (
            {"phases": [{"steps": 3, "guidance": [1, 2]}, {"steps": 1}]}, {}, A14B,
            "phases[0].guidance: has 2 values for 3 steps",
        ),
        (
            {"phases": [{"steps": 1}, {"steps": 2, "loras": [LORA, {"path": "b", "scale": "0:1, 2:0"}]}]},
            {}, A14B, "phases[1].loras[1].scale: step 2 is not among the 2 steps",
        ),
        (
            {"phases": [{"steps": 1}, {"steps": 2, "loras": [LORA, LORA]}]}, {}, A14B,
            "phases[1].loras[1].path: a.safetensors is in phases[1].loras[0] too",
        ),
        (
            {
                "phases": [{"steps": 1}, {"steps": 2, "loras": [LORA]}],
                "loras_per_stage": [{**LORA, "high": [1.0]}],
            }, {}, A14B, "is in loras_per_stage[0] too",
        ),
        (
            {"phases": [{}, {"loras": [{"path": "http://a/b"}]}]}, {}, A14B,
            "phases[1].loras[0].path is downloaded over https only",
        ),
    ],
)  # fmt: skip
def test_phases_that_cannot_run_are_refused_with_phase_and_field(
    local: dict[str, Any], values: dict[str, Any], family: Any, says: str
) -> None:
    assert says in refused(report(local, family, **values), "phases")


def test_guidance_of_another_number_of_steps_is_refused() -> None:
    assert "4 values, but num_inference_steps is 5" in refused(
        report({"guidance": [3, 2, 1, 1]}, num_inference_steps=5), "guidance"
    )


def test_speech_has_no_phases_and_keeps_the_strength_of_a_lora() -> None:
    local = {"phases": "3.5, 1", "loras_per_stage": [{**LORA, "high": [1, 0]}]}
    values = {"prompt": "a", "image_url": "a.png", "audio_url": "a.wav", "local": local}
    told = check(parse("speech-to-video", values), family=FAMILIES["wan2.2-s2v-14b"])
    assert "one phase" in refused(told, "phases")
    assert "keeps the strength of a LoRA" in refused(told, "loras_per_stage")


@pytest.mark.parametrize(
    ("local", "steps"), [({"phases": "high 2: 1, low 3: 1"}, 5), ({"guidance": [1, 1, 1]}, 3)]
)
def test_unset_steps_become_those_that_are_stated(local: dict[str, Any], steps: int) -> None:
    told = report(local)
    assert told.require().values["num_inference_steps"] == steps
    assert any(item.field == "num_inference_steps" for item in told.adjustments)


@pytest.mark.parametrize(
    ("local", "field"),
    [
        ({"phases": "3.5, 1"}, "guidance_scale"),
        ({"phases": [{"expert": "high"}, {"expert": "low", "guidance": 2}]}, "guidance_scale_2"),
        ({"guidance": [1, 1]}, "guidance_scale_2"),
    ],
)
def test_a_scale_beside_a_setting_that_replaces_it_is_refused(local: dict[str, Any], field: str) -> None:
    (problem,) = report(local, **{field: 7.0}).problems
    assert problem.field == field
    assert "has the scale of each step; leave one of the two out" in problem.fix


def test_a_scale_that_no_phase_states_is_still_the_request_s() -> None:
    told = report({"phases": [{"expert": "high"}, {"expert": "low", "guidance": 2}]}, guidance_scale=7.0)
    assert told.require().values["guidance_scale"] == 7.0


@pytest.mark.parametrize(("phases", "warned"), [("1, 1", True), ("1, 1, 2", False), ("3.5, 1", False)])
def test_a_negative_prompt_is_idle_only_where_every_phase_has_guidance_1(phases: str, warned: bool) -> None:
    told = report({"phases": phases}, negative_prompt="ugly")
    assert any("no effect while" in item.reason for item in told.findings) is warned


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=9), st.data())
def test_pairs_say_the_same_as_the_list_that_they_stand_for(values: list[float], data: st.DataObject) -> None:
    kept = [0, *(step for step in range(1, len(values)) if data.draw(st.booleans()))]
    text = ", ".join(f"{step}:{values[step]!r}" for step in kept)
    stands_for = tuple(values[max(step for step in kept if step <= at)] for at in range(len(values)))
    asked = LocalSettings.model_validate({"loras_per_stage": [{"path": "a", "high": text}]})
    (lora,) = asked.loras_per_stage
    assert at_each(lora.high, len(values)) == stands_for
    listed = LocalSettings.model_validate({"loras_per_stage": [{"path": "a", "high": list(stands_for)}]})
    assert at_each(listed.loras_per_stage[0].high, len(values)) == stands_for
