"""The rows of a LoRA table: what they mean, and that no wrong one gets through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.request.lora_rows import LoraRow, loras_of, read_rows
from wan_duet.pipelines.request.parse import read_loras

PAGE = Path(__file__).parents[2] / "docs" / "lora-rows.md"
MEGABYTE = 2**20
NAMES = st.from_regex(r"[a-zA-Z0-9_ é-]{1,20}(/[a-z]{1,8}){0,2}\.safetensors", fullmatch=True)
STRENGTHS = st.one_of(st.integers(-100, 100), st.floats(-100, 100))
ROWS = st.lists(
    st.fixed_dictionaries({"file": NAMES, "high": STRENGTHS, "low": STRENGTHS, "on": st.booleans()}),
    max_size=60,
    unique_by=lambda row: row["file"],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["file", "high", "low", "on", "x"]), inner)
    ),
    max_leaves=20,
)


@given(ROWS, st.sampled_from([None, 1]))
def test_what_is_written_is_read(values: list[dict[str, Any]], indent: int | None) -> None:
    rows = read_rows(json.dumps(values, indent=indent))
    assert [row.number for row in rows] == list(range(len(values)))
    assert [{"file": row.file, "high": row.high, "low": row.low, "on": row.on} for row in rows] == values


@given(ROWS)
def test_every_entry_is_one_that_a_request_takes(values: list[dict[str, Any]]) -> None:
    entries = read_loras(loras_of(read_rows(json.dumps(values))))
    strength: dict[tuple[str, str], float] = {}
    for entry in entries:
        for expert in ("high", "low") if entry.transformer == "both" else (entry.transformer,):
            strength[entry.path, expert] = entry.scale
    for row in values:
        for expert in ("high", "low"):
            assert strength.get((row["file"], expert), 0.0) == (row[expert] if row["on"] else 0.0)


@given(JSON | st.text())
def test_anything_else_is_refused_with_its_row(value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        rows = read_rows(text)
    except RequestError as refusal:
        fields = {problem.field.partition("[")[0] for problem in refusal.problems}
        assert fields == {"rows"}
    else:
        assert all(isinstance(row, LoraRow) for row in rows)


def test_keys_that_are_left_out_have_their_default() -> None:
    assert read_rows('[{"file": "style\\\\a.safetensors"}]') == (
        LoraRow(0, "style/a.safetensors", 1.0, 1.0, True),
    )
    assert read_rows("") == read_rows(" [ ] ") == ()


def test_both_experts_are_one_entry_and_strength_zero_is_none() -> None:
    def entries(**row: Any) -> list[tuple[float, str]]:
        loras = loras_of(read_rows(json.dumps([{"file": "a", **row}])))
        return [(lora["scale"], lora["transformer"]) for lora in loras]

    assert entries(high=0.5, low=0.5) == [(0.5, "both")]
    assert entries(high=0.5, low=-1) == [(0.5, "high"), (-1.0, "low")]
    assert entries(high=0.5, low=0) == [(0.5, "high")]
    assert entries(high=0, low=0) == [(0.0, "both")]  # kept: its report says that it has no effect
    assert entries(on=False) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file": "b", "strength": 1}, r"rows\[1\]\.strength: there is no such key; known keys: file, high"),
        ({"file": "b", "hihg": 1}, r"rows\[1\]\.hihg: .* did you mean high"),
        ({"high": 1}, r"rows\[1\]\.file: missing"),
        ({"file": "a"}, r"rows\[1\]\.file: a is in rows\[0\] too"),
        ({"file": "a", "on": False}, r"rows\[1\]\.file: a is in rows\[0\] too"),
        ({"file": "../b"}, r"rows\[1\]\.file: '\.\./b' .* leads out of models/loras"),
        ({"file": "style\\..\\..\\b"}, r"rows\[1\]\.file: .* leads out"),
        ({"file": "./a"}, r"rows\[1\]\.file: .* leads out"),
        ({"file": "/etc/passwd"}, r"rows\[1\]\.file: .* leads out"),
        ({"file": "C:\\b"}, r"rows\[1\]\.file: .* leads out"),
        ({"file": "https://files.example/b"}, r"rows\[1\]\.file: .* leads out"),
        ({"file": "owner/name"}, r"rows\[1\]\.file: .* is not a file; .*; path takes addresses"),
        ({"file": ""}, r"rows\[1\]\.file: got ''"),
        ({"file": 7}, r"rows\[1\]\.file: got 7 \(whole number\)"),
        ({"file": "b\0"}, r"rows\[1\]\.file: .* has a character"),
        ({"file": "b" * 2000}, r"rows\[1\]\.file: got"),
        ({"file": "b", "high": "1"}, r"rows\[1\]\.high: got '1' \(text\)"),
        ({"file": "b", "low": True}, r"rows\[1\]\.low: got True"),
        ({"file": "b", "low": 101}, r"rows\[1\]\.low: got 101"),
        ({"file": "b", "low": 10**400}, r"rows\[1\]\.low: got"),
        ({"file": "b", "on": 1}, r"rows\[1\]\.on: got 1"),
        ("b", r"rows\[1\]: got 'b' \(text\); give an object with a file"),
        ({"file": "b" * MEGABYTE}, r"rows\[1\]: ends at character 10486\d\d of the text; give at most 65536"),
    ],
)
def test_a_wrong_row_is_refused_by_its_number(row: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_rows(json.dumps([{"file": "a"}, row]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"file": "a"}, {"file": "b", "file": "c"}]', r"rows\[1\]: 'file' is given twice"),
        ('[{"file": "a"}, {"file": "b", "high": NaN}]', r"rows\[1\]: NaN is not JSON"),
        ('[{"file": "a"}, {"file": ]', r"rows\[1\]: not JSON"),
        ('[{"file": "a"}, {"file": "b"}', r"rows\[1\]: no , or \] behind it"),
        ('[{"file": "a"} {"file": "b"}]', r"rows\[0\]: no , or \] behind it"),
        ('[{"file": "a"},]', r"rows\[1\]: missing after a comma"),
        ("[" * 100_000, r"rows\[0\]: not JSON"),
        ('{"file": "a"}', "rows: got .* give a JSON list of objects"),
        ("[] []", "rows: text after the list"),
        (f"[{' ' * MEGABYTE}]", "rows: 1048578 characters; give at most 65536"),
    ],
)
def test_wrong_json_is_refused_by_the_row_it_is_in(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_rows(text)


def test_a_megabyte_of_rows_is_refused_at_the_row_that_is_too_much() -> None:
    rows = [{"file": f"{number}.safetensors"} for number in range(40_000)]
    text = json.dumps(rows)
    assert len(text) > MEGABYTE
    with pytest.raises(RequestError) as refusal:
        read_rows(text)
    (problem,) = refusal.value.problems
    number = int(problem.field.removeprefix("rows[").removesuffix("]"))
    assert len(json.dumps(rows[:number])) <= 65_536 < len(json.dumps(rows[: number + 1]))


def test_the_examples_of_the_page_are_rows() -> None:
    blocks = [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split("```json\n")[1:]]
    assert blocks
    for block in blocks:
        assert read_rows(block)
