"""What the widgets of a LoRA node say."""

from __future__ import annotations

from typing import Any

import pytest

from wan_duet.nodes.lora_choice import NONE, chosen_loras, files_in_rows, for_task
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request import read_loras


def chosen(**settings: Any) -> list[Any]:
    unset = {"file": NONE, "path": "", "weight_name": "", "scale": 1.0, "transformer": "high"}
    return chosen_loras(**{**unset, **settings})


def test_a_file_is_named_as_on_every_system() -> None:
    assert chosen(file="style\\a.safetensors", scale=0.5, transformer="both") == [
        {"path": "style/a.safetensors", "scale": 0.5, "transformer": "both"}
    ]


def test_a_path_may_choose_a_file_of_its_repository() -> None:
    assert chosen(path=" owner/name ", weight_name=" a.safetensors ") == [
        {"path": "owner/name", "scale": 1.0, "transformer": "high", "weight_name": "a.safetensors"}
    ]


def test_a_pair_goes_to_the_high_and_the_low_expert() -> None:
    assert chosen(file="h.safetensors", scale=0.9, low_file="l.safetensors", low_scale=0.7) == [
        {"path": "h.safetensors", "scale": 0.9, "transformer": "high"},
        {"path": "l.safetensors", "scale": 0.7, "transformer": "low"},
    ]
    assert chosen(low_file="l.safetensors") == [{"path": "l.safetensors", "scale": 1.0, "transformer": "low"}]


def test_a_list_comes_after_the_widgets_and_is_checked_like_a_request() -> None:
    entries = chosen(file="toy/circling", loras='[{"path": "b", "transformer": "both"}]')
    assert [(lora.path, lora.transformer) for lora in read_loras(entries)] == [
        ("toy/circling", "high"),
        ("b", "both"),
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"loras": "[]"}, {"rows": "[]"}, {"rows": '[{"file": "none"}]'}], ids=str
)
def test_nothing_chosen_is_no_lora(settings: dict[str, Any]) -> None:
    assert chosen(**settings) == []


def test_rows_come_last_and_only_those_that_are_on_count() -> None:
    rows = '[{"file": "b"}, {"file": "c", "on": false}, {"file": "d", "low": 0.5}]'
    assert [(entry["path"], entry["transformer"]) for entry in chosen(file="a", rows=rows)] == [
        ("a", "high"),
        ("b", "both"),
        ("d", "high"),
        ("d", "low"),
    ]
    assert files_in_rows(rows) == {"rows[0].file": "b", "rows[2].file": "d"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"file": "a", "path": "b"}, "loras: both file and path are given; give one"),
        ({"file": "a", "weight_name": "b"}, "weight_name: given without path"),
        ({"file": "a", "low_file": "b", "transformer": "both"}, "transformer: both, beside a low_file"),
        ({"loras": '{"path": "a"}'}, r"loras: got .*\(object\); give a JSON list"),
        ({"loras": "[1"}, "loras: not JSON"),
        ({"loras": '[{"path": "a", "path": "b"}]'}, "loras: 'path' is given twice"),
        ({"loras": '[{"path": "a", "scale": NaN}]'}, "loras: NaN is not JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        chosen(**settings)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[{"path": "a"}, {"path": "b", "scale": "1"}]', "loras[1].scale"),
        ('[{"path": "a", "transformer": "hihg"}]', "loras[0].transformer"),
        ('[{"scale": 1.0}]', "loras[0].path"),
        ('["a.safetensors"]', "loras[0]"),
    ],
)
def test_a_wrong_entry_of_the_list_is_named(text: str, field: str) -> None:
    with pytest.raises(RequestError) as refusal:
        read_loras(chosen(loras=text))
    assert [problem.field for problem in refusal.value.problems] == [field]


def test_the_expert_is_left_out_where_there_is_no_choice_of_it() -> None:
    entries = chosen(file="a", transformer="both", loras='[{"path": "b"}]')
    assert for_task("text-to-video", "text-to-video-lora", entries) == entries
    plain = for_task("legacy-text-to-video", "legacy-text-to-video-lora", entries)
    assert plain == [{"path": "a", "scale": 1.0}, {"path": "b"}]
    with pytest.raises(RequestError, match="legacy-text-to-video-lora has no choice of the expert"):
        for_task("legacy-text-to-video", "legacy-text-to-video-lora", chosen(low_file="a"))
