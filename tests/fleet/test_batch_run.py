"""A batch runs each row once, keeps what was made, and says what became of each row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import JournalError, RequestError
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.batch_rows import read_rows
from wan_duet.pipelines.fleet.batch_run import BatchResult
from wan_duet.pipelines.fleet.row_journal import RowJournal

from .batches import SETTINGS, Painter, Watched, manifest, paint, visible, write_rows


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in "abc"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_each_row_has_its_file_receipt_and_line_in_the_manifest(rows: Path, out: Path) -> None:
    assert paint(rows, out) == BatchResult(done=3, failed=0, waiting=0)
    lines = manifest(out)
    assert [(line["line"], line["id"], line["state"]) for line in lines] == [
        (1, "00001", "done"),
        (2, "00002", "done"),
        (3, "00003", "done"),
    ]
    for line in lines:
        assert (out / line["file"]).stat().st_size == line["size_bytes"]
        assert json.loads((out / line["receipt"]).read_text())["request"]["seed"] == line["seed"]


def test_the_manifest_grows_with_the_rows(rows: Path, out: Path) -> None:
    lengths: list[int] = []
    paint(rows, out, watched=Watched(at=lambda _: lengths.append(len(manifest(out)))))
    assert lengths == [0, 1, 1, 2, 2, 3]


def test_a_manifest_that_was_left_half_written_is_removed(rows: Path, out: Path) -> None:
    out.mkdir()
    for name in ("results.jsonlab_c1234", "results.csvab_c1234", "results.csv.backup"):
        (out / name).touch()
    paint(rows, out)
    assert {file.name for file in out.glob("results.*")} == {
        "results.jsonl",
        "results.csv",
        "results.csv.backup",
    }


def test_what_is_done_is_not_made_again(rows: Path, out: Path) -> None:
    paint(rows, out)
    again, watched = Painter(), Watched()
    assert paint(rows, out, again, watched).done == 3
    assert (again.asked, watched.done_before) == ([], 3)
    assert len(manifest(out)) == 3


def test_a_result_that_was_removed_is_made_again(rows: Path, out: Path) -> None:
    paint(rows, out)
    content = (out / "00002.png").read_bytes()
    (out / "00002.png").unlink()
    again = Painter()
    paint(rows, out, again)
    assert again.asked == ["b"]
    assert (out / "00002.png").read_bytes() == content


def test_a_drawn_seed_stays_that_of_its_row(tmp_path: Path, out: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"prompt": "a", "local": {"count": 2}}, {"prompt": "fails"})
    with pytest.raises(KeyboardInterrupt):
        paint(rows, out, Painter(at=_stop_at("half")))
    waiting = [row.seed for row in RowJournal(out / "batch.sqlite", lambda: 0).rows()]
    paint(rows, out)
    assert [str(line["seed"]) for line in manifest(out)] == waiting
    assert len(set(waiting)) == 3


def _stop_at(name: str) -> object:
    def at(step: str) -> None:
        if step == name:
            raise KeyboardInterrupt

    return at


def test_a_stop_leaves_nothing_of_the_row_and_the_next_run_goes_on(rows: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        paint(rows, out, Painter(at=_stop_at("without receipt")))
    assert visible(out) == set()
    assert not any((out / ".unfinished").iterdir())
    assert paint(rows, out).done == 3


def test_a_fault_of_this_program_is_no_failed_row(rows: Path, out: Path) -> None:
    def at(step: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        paint(rows, out, Painter(at=at))
    assert [row.state for row in RowJournal(out / "batch.sqlite", lambda: 0).rows()] == ["waiting"] * 3


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_failure_ends_the_batch_unless_it_shall_go_on(tmp_path: Path, out: Path, keep_going: bool) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text} for text in ("a", "fails", "b")))
    result = paint(rows, out, keep_going=keep_going)
    assert result == BatchResult(2, 1, 0) if keep_going else BatchResult(1, 1, 1)
    failed = next(line for line in manifest(out) if line["state"] == "failed")
    assert (failed["file"], failed["error"]) == (None, "fails: no such model")
    assert not (out / ".unfinished").exists()
    again = Painter()
    paint(rows, out, again, keep_going=keep_going)
    assert again.asked[0] == "fails"  # it is tried again
    assert [line["state"] for line in manifest(out)].count("failed") == 1


def test_a_second_batch_in_the_folder_is_refused(rows: Path, out: Path) -> None:
    with BatchFolder(out).alone(), pytest.raises(RequestError, match="another batch runs in"):
        paint(rows, out)
    assert paint(rows, out).done == 3


def test_rows_may_be_added_and_moved(rows: Path, out: Path) -> None:
    paint(rows, out)
    write_rows(rows, {"prompt": "new", "seed": 1}, *({"prompt": text, "seed": 1} for text in "cba"))
    again = Painter()
    paint(rows, out, again)
    assert again.asked == ["new"]
    assert {line["id"]: line["line"] for line in manifest(out)} == {
        "00001": 4,
        "00002": 3,
        "00003": 2,
        "00004": 1,
    }


def test_equal_rows_are_as_many_results(tmp_path: Path, out: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *[{"prompt": "a"}] * 3)
    paint(rows, out)
    assert len(manifest(out)) == len({line["seed"] for line in manifest(out)}) == 3
    again = Painter()
    paint(rows, out, again)
    assert again.asked == []


def test_an_id_stays_that_of_its_request(tmp_path: Path, out: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"prompt": "a", "id": "x"})
    paint(rows, out)
    write_rows(rows, {"prompt": "b", "id": "x"})
    with pytest.raises(RequestError, match="x is the id of another request"):
        paint(rows, out)


def test_another_model_is_refused(rows: Path, out: Path) -> None:
    paint(rows, out)
    with pytest.raises(RequestError, match="another model, other weights or other settings"):
        paint(rows, out, settings={"files": {"model": "sha256:1"}})


@pytest.mark.parametrize("name", ["00002.png", "00002.json"])
def test_a_file_of_somebody_else_is_not_replaced(rows: Path, out: Path, name: str) -> None:
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(RequestError, match=f"{name} exists, and is not of this batch"):
        paint(rows, out)
    assert (out / name).read_text() == "mine"


def test_an_attempt_that_was_given_up_cannot_publish(rows: Path, tmp_path: Path) -> None:
    journal = RowJournal(tmp_path / "batch.sqlite", lambda: 0)
    (row, *_) = journal.enter(read_rows(rows, "text-to-video")[0], SETTINGS)
    slow = journal.begin(row.number, "local")
    journal.resume()  # its process was thought dead
    quick = journal.begin(row.number, "local")
    with pytest.raises(JournalError, match="running in attempt 2, not running in 1"):
        journal.publish(slow.number, slow.attempt, file="a.png")
    journal.publish(quick.number, quick.attempt, file="a.png")
    with pytest.raises(JournalError, match="is publishing, so it cannot be begun"):
        journal.begin(row.number, "local")
    journal.close()
