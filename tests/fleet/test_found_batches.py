"""Batches below a folder are found, told as `batch status` tells them, cancelled and tried again."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import JournalError
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.batch_progress import open_batch, progress_of
from wan_duet.pipelines.fleet.found_batches import (
    MOST_BATCHES,
    MOST_FOLDERS,
    cancel_batch,
    find_batches,
    list_batches,
    retry_batch,
)

from .batches import Painter, paint, write_rows

NOW = 2_000_000_000.0


def make(out: Path, *prompts: str, painter: Painter | None = None, **fields: Any) -> Path:
    """A batch of these prompts that has run."""
    rows = [{"prompt": prompt, "seed": 1, **fields} for prompt in prompts]
    paint(write_rows(out.parent / "rows.jsonl", *rows), out, painter, keep_going=True)
    return out


def only(root: Path) -> dict[str, Any]:
    (told,) = list_batches(root, NOW)["batches"]
    return dict(told)


def test_a_batch_is_told_as_batch_status_tells_it(tmp_path: Path) -> None:
    out = make(tmp_path / "out", "a", "b fails", batch="night")
    told = only(tmp_path)
    with closing(open_batch(out)) as journal:
        facts = progress_of(journal, NOW).as_dict()
        seconds = sum(row.seconds or 0 for row in journal.rows("done"))
    assert {name: told[name] for name in facts} == facts
    assert (told["batch"], told["names"], told["is_over"], told["problem"]) == ("out", ["night"], True, None)
    assert (told["rows"], told["done"], told["failed"], told["is_running"]) == (2, 1, 1, False)
    assert (told["seconds"], told["usd"]) == (pytest.approx(seconds, abs=0.1), None)


def test_batches_are_found_as_deep_as_the_rule_says_and_the_last_changed_comes_first(tmp_path: Path) -> None:
    deepest = tmp_path.joinpath(*"abcd"[:MOST_FOLDERS])
    for age, folder in enumerate((tmp_path, deepest, tmp_path / "x y")):
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, "one")
        os.utime(folder / "batch.sqlite", (NOW - age, NOW - age))
    for hidden in (deepest / "e", tmp_path / ".unfinished"):
        hidden.mkdir()
        make(hidden, "one")
    assert find_batches(tmp_path) == [tmp_path, deepest, tmp_path / "x y"]
    assert [one["batch"] for one in list_batches(tmp_path, NOW)["batches"]] == [".", "a/b/c/d", "x y"]
    assert find_batches(tmp_path / "none") == []


def test_a_batch_behind_a_link_is_not_one_of_this_folder(tmp_path: Path) -> None:
    elsewhere, root = make(tmp_path / "elsewhere", "a"), tmp_path / "root"
    (root / "copy").mkdir(parents=True)
    try:
        (root / "linked").symlink_to(elsewhere, target_is_directory=True)
        (root / "copy" / "batch.sqlite").symlink_to(elsewhere / "batch.sqlite")
    except OSError:
        pytest.skip("this system makes no links")
    assert find_batches(root) == []
    for name in ("linked", "copy", "../elsewhere", str(elsewhere)):
        with pytest.raises(JournalError, match="no such batch"):
            cancel_batch(root, name)


def test_only_the_batches_that_changed_last_are_read(tmp_path: Path) -> None:
    for number in range(MOST_BATCHES + 2):
        folder = tmp_path / f"{number:02}"
        folder.mkdir()
        (folder / "batch.sqlite").touch()
        os.utime(folder / "batch.sqlite", (number, number))
    told = list_batches(tmp_path, NOW)
    assert [one["batch"] for one in told["batches"]] == [
        f"{number:02}" for number in range(MOST_BATCHES + 1, 1, -1)
    ]
    assert told["older"] == 2


def test_a_batch_that_runs_has_its_rows_and_the_time_that_is_left(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []

    def look(at: str) -> None:
        if at == "begun":
            seen.append(only(tmp_path))

    make(out, "a", "b", "c", painter=Painter(at=look))
    assert [one["is_running"] for one in seen] == [True] * 3
    assert [(one["done"], one["running"], one["waiting"]) for one in seen] == [
        (0, 1, 2),
        (1, 1, 1),
        (2, 1, 0),
    ]
    assert [one["now"][0]["id"] for one in seen] == ["00001", "00002", "00003"]
    assert seen[0]["left_s"] is None
    assert seen[1]["left_s"] == pytest.approx(
        2 * seen[1]["seconds"], abs=0.2
    )  # two rows left, one was measured


def test_failed_rows_wait_again_and_those_that_are_not_done_are_cancelled(tmp_path: Path) -> None:
    make(tmp_path / "out", "a", "fails", "also fails")
    assert retry_batch(tmp_path, "out") == 2
    told = only(tmp_path)
    assert (told["done"], told["waiting"], told["failed"], told["is_over"]) == (1, 2, 0, False)
    assert cancel_batch(tmp_path, "out") == 2
    assert (only(tmp_path)["done"], only(tmp_path)["cancelled"]) == (1, 2)
    assert retry_batch(tmp_path, "out") == 2


def test_the_money_of_bought_rows_comes_from_their_receipts(tmp_path: Path) -> None:
    out = make(tmp_path / "out", "a", "b", "c", painter=Painter(name="fal-1", place="fal"))
    assert (only(tmp_path)["usd"], only(tmp_path)["rows_of_unknown_price"]) == (0, 3)
    for name, estimate, charged in (("00001", 0.5, 0.23456), ("00002", 0.3, None)):
        price = {"estimate": "", "estimate_usd": estimate, "charged_usd": charged}
        (out / f"{name}.json").write_text(json.dumps({"price": price}))
    with closing(open_batch(out)) as journal:
        for row in journal.rows():  # they were made again
            journal._set(row.number, line=row.line)
    told = only(tmp_path)
    assert (told["usd"], told["rows_of_unknown_price"]) == (0.5346, 1)


def test_a_journal_that_cannot_be_read_is_told_beside_the_others(tmp_path: Path) -> None:
    make(tmp_path / "good", "a")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "batch.sqlite").write_bytes(b"no journal" * 100)
    told = {one["batch"]: one for one in list_batches(tmp_path, NOW)["batches"]}
    assert told["good"]["done"] == 1
    assert told["bad"]["problem"].startswith("the journal is damaged: bad")
    with pytest.raises(JournalError) as refused:
        retry_batch(tmp_path, "bad")
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("image_url: /home/me/private/ball.png: not there", "image_url: …/ball.png: not there"),
        (r"C:\Users\me\models\wan.safetensors: damaged", "…/wan.safetensors: damaged"),
        (r"\\nas\share\wan.safetensors: damaged", "…/wan.safetensors: damaged"),
        ("got 'images/a.png'; give one", "got 'images/a.png'; give one"),
        ("https://host/a/b.png: status 404, 2/3 done", "https://host/a/b.png: status 404, 2/3 done"),
        ("OUT/night/00001.mp4 exists", "night/00001.mp4 exists"),
    ],
)
def test_an_error_names_no_folder_outside_of_the_searched_one(tmp_path: Path, said: str, told: str) -> None:
    make(tmp_path / "out", "a fails")
    with closing(open_batch(tmp_path / "out")) as journal:
        journal._set(1, error=said.replace("OUT/", f"{tmp_path}{os.sep}"))
    assert only(tmp_path)["errors"][0]["error"] == told


def test_a_few_errors_stand_for_all(tmp_path: Path) -> None:
    make(tmp_path / "out", *(f"{number} fails" for number in range(5)))
    told = only(tmp_path)
    assert ([one["id"] for one in told["errors"]], told["more_errors"]) == (["00001", "00002", "00003"], 2)
    assert told["failed"] == 5


def test_a_list_leaves_the_journal_to_the_process_that_runs_it(tmp_path: Path) -> None:
    out = make(tmp_path / "out", "a")
    with BatchFolder(out).alone():
        assert only(tmp_path)["is_running"]
    assert not only(tmp_path)["is_running"]
