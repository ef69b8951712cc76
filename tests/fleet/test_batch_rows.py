"""All rows are read and checked before one runs: every mistake is told at once, with its line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.fleet.batch_rows import _require_name, read_rows
from wan_duet.pipelines.fleet.row_source import _of_file

from .batches import paint, visible, write_rows


def problems(rows: Path) -> list[str]:
    found = read_rows(rows, "text-to-video")[1]
    return [f"{problem.field}: {problem.found}" for problem in found]


def test_the_mistakes_of_all_lines_are_told_at_once(tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path / "rows.jsonl",
        {"prompt": "a"},
        {"prompt": "b", "num_frames": "many", "seed": -5.5},
        "",
        "{nonsense",
        {"prompt": "c", "kind": "no-such-kind"},
        {"prompt": "d", "kind": 5},
        {"prompt": "e", "id": "../out"},
        "[1]",
    )
    found = problems(rows)
    starts = ("line 2: num_frames", "line 2: seed", "line 4: ", "line 5: kind", "line 6: kind", "line 7: id")
    for start in (*starts, "line 8: request"):
        assert any(item.startswith(start) for item in found), start
    assert not any(item.startswith(("line 1", "line 3")) for item in found)


def test_what_the_place_cannot_run_is_told_for_all_rows_before_one_runs(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text} for text in ("a", "impossible", "b")))
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "impossible too", "local": {"count": 3}}) + "\n{}\n")
    with pytest.raises(RequestError) as found:
        paint(rows, tmp_path / "out")
    fields = [problem.field for problem in found.value.problems]
    assert sorted(fields) == ["line 2: prompt", "line 4: prompt", "line 5: prompt"]
    assert visible(tmp_path / "out") == set()


def test_an_id_is_used_once(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"prompt": "a", "id": "One"}, {"prompt": "b", "id": "one"})
    assert problems(rows) == ["line 2: id: one is that of line 1 too"]


def test_the_names_of_a_count_are_ids_too(tmp_path: Path) -> None:
    counted = {"prompt": "a", "id": "x", "local": {"count": 2}}
    rows = write_rows(tmp_path / "rows.jsonl", counted, {"prompt": "b", "id": "x-2"})
    assert problems(rows) == ["line 2: id: x-2 is that of line 1 too"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-o", "a" * 81, "a b", "5", 5, True])
def test_an_id_is_a_file_name_everywhere(tmp_path: Path, name: Any) -> None:
    (found,) = problems(write_rows(tmp_path / "rows.jsonl", {"prompt": "a", "id": name}))
    assert found.startswith("line 1: id: got ")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(RequestError, match=r"rows\.jsonl has no rows"):
        read_rows(tmp_path / "rows.jsonl", "text-to-video")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"rows\.jsonl: No such file"):
        read_rows(tmp_path / "rows.jsonl", "text-to-video")


def test_a_row_says_its_kind(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"prompt": "a", "kind": "text-to-image"}, {"prompt": "b"})
    assert [row.request.kind for row in read_rows(rows, "text-to-video")[0]] == [
        "text-to-image",
        "text-to-video",
    ]


def test_a_file_of_windows_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
    assert [row.line for row in read_rows(tmp_path / "rows.jsonl", "text-to-video")[0]] == [1, 2]


@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ")), max_size=8))
def test_any_lines_are_rows_or_problems_with_their_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    file = tmp_path_factory.mktemp("any") / "rows.jsonl"
    file.write_bytes(b"\n".join(lines))
    written = {number for number, line in enumerate(lines, 1) if line.strip()}
    if not written:
        with pytest.raises(RequestError, match="has no rows"):
            read_rows(file, "text-to-video")
        return
    rows, found = read_rows(file, "text-to-video")
    named = {int(problem.field.partition(":")[0].removeprefix("line ")) for problem in found}
    assert named | {row.line for row in rows} == written
    assert not named & {row.line for row in rows}


def test_each_line_of_a_text_file_is_a_prompt(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.TXT"
    prompts.write_bytes('\ufeffa red ball\r\n\r\n  {"no": json} \r\n# größer\n'.encode())
    rows, found = read_rows(prompts, "text-to-image")
    assert found == []
    assert [(row.line, row.request.payload()["prompt"]) for row in rows] == [
        (1, "a red ball"),
        (3, '{"no": json}'),
        (4, "# größer"),
    ]
    assert {row.request.kind for row in rows} == {"text-to-image"}


def test_a_file_of_prompts_is_utf_8_and_not_empty(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    for content, found in ((b"a\xff", "prompts.txt: 'utf-8' codec"), (b" \n", "prompts.txt has no rows")):
        prompts.write_bytes(content)
        with pytest.raises(RequestError, match=found):
            read_rows(prompts, "text-to-video")


def test_each_json_file_of_a_folder_is_a_request_with_its_name(tmp_path: Path) -> None:
    for name, prompt in (("b.json", "b"), ("a shot.JSON", "a"), ("007.json", "c")):
        (tmp_path / name).write_text(json.dumps({"prompt": prompt}, indent=2))
    (tmp_path / "named.json").write_text('{"prompt": "d", "id": "own", "kind": "text-to-image"}')
    (tmp_path / "first.png").write_bytes(b"an input")
    (tmp_path / "results").mkdir()
    rows, found = read_rows(tmp_path, "text-to-video")
    assert found == []
    assert [(row.line, row.where, row.name) for row in rows] == [
        (1, "007.json", "request-007"),
        (2, "a shot.JSON", "a-shot"),
        (3, "b.json", "b"),
        (4, "named.json", "own"),
    ]
    assert rows[3].request.kind == "text-to-image"


def test_mistakes_in_a_folder_name_their_file(tmp_path: Path) -> None:
    for name, text in (
        ("a b", "{"),
        ("c", '{"prompt": "x"}'),
        ("C ", '{"prompt": "y"}'),
        ("d", '{"steps": 1}'),
    ):
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "c-.json").write_text('{"prompt": "z"}')
    starts = ("a b.json: request: not JSON", "d.json: steps: there is no such", "c-.json: id: c- is that of")
    found = problems(tmp_path)
    assert all(any(item.startswith(start) for item in found) for start in starts), found


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no rows"):
        read_rows(tmp_path, "text-to-video")


@given(st.text(max_size=100))
def test_any_name_of_a_file_gives_a_name_of_a_result(stem: str) -> None:
    name = _of_file(1, Path(f"x{stem}x.json".replace("/", "").replace("\0", "")), b"{}").name
    assert name is not None
    _require_name(name)


@pytest.mark.parametrize("stem", ["-", "..", " ", "7", "é", "_a", "-5", ".5", "٣", "a" * 200])
def test_an_odd_name_of_a_file_gives_a_name_of_a_result(stem: str) -> None:
    name = _of_file(1, Path(f"{stem}.json"), b"{}").name
    assert name is not None
    _require_name(name)
