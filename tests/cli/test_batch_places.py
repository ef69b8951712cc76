"""`wan-duet batch run --on` other places, and the commands that follow a batch."""

from __future__ import annotations

import csv
import json
import os
import threading
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.cli.batch_lines import RowTable
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.batch_progress import open_batch
from wan_duet.pipelines.fleet.fal_place import FalPlace
from wan_duet.pipelines.fleet.worker import Task
from wan_duet.pipelines.remote.accounts import account_at
from wan_duet.pipelines.remote.experience import known_spending
from wan_duet.pipelines.remote.remote_thread import RemoteThread
from wan_duet.pipelines.request import parse

from ..fleet.batches import Painter, paint, write_rows
from ..servers.fal import FalServer

SMALL = {
    "num_frames": 17,
    "num_inference_steps": 2,
    "interpolator_model": "none",
    "local": {"width": 32, "height": 32},
}
LONG = pytest.mark.skipif("WAN_DUET_LONG" not in os.environ, reason="long: a second process imports torch")


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def answer(capsys: pytest.CaptureFixture[str], *command: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*command, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_rows_are_bought_at_fal_once(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ("a", "b", "a (red:1.4) ball")
    rows, out = write_rows(tmp_path / "rows.jsonl", *({"prompt": text} for text in prompts)), tmp_path / "out"
    command = ["batch", "run", str(rows), "-o", str(out), "--on", "fal"]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "--yes" in told
    assert "warning prompt: (red:1.4) is read as words: providers read no weights" in told
    assert "leave it out (1 of 3 rows)" in told
    assert not server.jobs, "bought without an answer"
    assert main([*command, "--yes"]) == 0
    assert "fal: 3 rows, up to $" in capsys.readouterr().err
    assert len(server.jobs) == 3
    assert all((out / line["file"]).stat().st_size == line["size_bytes"] for line in lines(out))
    assert json.loads((out / lines(out)[0]["receipt"]).read_text())["runner"] == "fal"
    assert main([*command, "--yes"]) == 0
    assert len(server.jobs) == 3


def test_an_attempt_after_a_crash_finds_what_was_bought(
    tmp_path: Path, folder: Path, server: FalServer
) -> None:
    async def connect() -> Any:
        return account_at("fal", folder)

    request = parse("text-to-video", {"prompt": "a red ball", "seed": 7})
    made = []
    for attempt in (1, 2):  # each is a process: the first ended before its row was published
        thread = RemoteThread(folder)
        account = thread.run(connect())
        place = FalPlace("fal-1", thread, account, known_spending(folder), tmp_path / "bought")
        (tmp_path / str(attempt)).mkdir()
        made.append(place.make(Task(request, tmp_path / str(attempt), "row", attempt)))
        thread.run(account.close())
        thread.close()
    assert len(server.jobs) == 1
    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    assert made[1].path == tmp_path / "2" / "row.mp4"


def test_the_limit_of_the_user_ends_a_batch_and_says_so(
    tmp_path: Path, folder: Path, server: FalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "spending.json").write_text(json.dumps({"per_run_usd": 0.01}))
    rows, out = write_rows(tmp_path / "rows.jsonl", {"prompt": "a"}), tmp_path / "out"
    assert main(["batch", "run", str(rows), "-o", str(out), "--on", "fal", "--yes"]) == 1
    assert "limit" in capsys.readouterr().err
    assert not server.jobs


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=LONG)])
def test_processes_make_the_rows_of_one_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    """A process starts with its first row: two share two rows."""
    given = [{**SMALL, "prompt": "a red ball", "seed": seed} for seed in range(count)]
    rows, out = write_rows(tmp_path / "rows.jsonl", *given), tmp_path / "out"
    assert main(["batch", "run", str(rows), "-o", str(out), "--model", "toy", "--workers", "2"]) == 0
    assert f"local: {count} row" in capsys.readouterr().err
    places = {line["place"] for line in lines(out)}
    assert len(places) == count
    assert places <= {"local-1", "local-2"}
    one = write_rows(tmp_path / "one.jsonl", given[0])
    assert main(["batch", "run", str(one), "-o", str(tmp_path / "alone"), "--model", "toy"]) == 0
    alike = {line["seed"]: line["frames_sha256"] for line in lines(out)}
    assert lines(tmp_path / "alone")[0]["frames_sha256"] == alike[0]
    assert len(set(alike.values())) == count


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--on", "fal", "--workers", "2"], "--workers: given with --on fal"),
        (["--on", "fal", "--precision", "fp32", "--compile"], "--precision, --compile: given with --on fal"),
        (["--comfy", "http://a"], "--comfy: given with --on local"),
        (["--on", "comfy", "--comfy", "a:8188"], "give addresses such as http://127.0.0.1:8188"),
        (["--on", "mars"], "'mars' is not a place"),
        (["--workers", "0"], "'0' is not a number of workers"),
    ],
)
def test_flags_that_mean_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", {"prompt": "a"})
    command = ["batch", "run", str(rows), "-o", str(tmp_path / "out"), "--model", "toy", *flags]
    try:
        code: object = main(command)
    except SystemExit as refused:  # by argparse
        code = refused.code
    assert code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A batch of three rows of which one has failed."""
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in ("a", "fails", "b")))
    paint(rows, tmp_path / "out", keep_going=True)
    return tmp_path / "out"


def test_the_status_says_how_many_rows_and_which_errors(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = answer(capsys, "batch", "status", str(out), code=1)
    assert (facts["rows"], facts["done"], facts["failed"], facts["waiting"]) == (3, 2, 1, 0)
    assert facts["is_running"] is False
    assert facts["errors"] == [
        {"id": "00002", "line": 2, "state": "failed", "cause": "failed", "error": "fails: no such model"}
    ]
    assert main(["batch", "status", str(out)]) == 1
    said = capsys.readouterr()
    assert said.out == "3 rows: 2 done, 1 failed\n"
    assert "00002 (line 2) failed: fails: no such model" in said.err
    with BatchFolder(out).alone():
        assert answer(capsys, "batch", "status", str(out), code=1)["is_running"] is True


def test_the_status_estimates_from_rows_that_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in ("a", "fails", "b")))
    paint(rows, tmp_path / "out")
    journal = open_batch(tmp_path / "out")
    journal._set(1, seconds=30.0)
    journal.close()
    facts = answer(capsys, "batch", "status", str(tmp_path / "out"), code=1)
    assert (facts["waiting"], facts["left_s"]) == (1, 30.0)


def test_rows_are_cancelled_and_wait_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "batch", "cancel", str(out)) == {"rows": ["00002"]}
    assert answer(capsys, "batch", "cancel", str(out), "00001") == {"rows": []}
    assert answer(capsys, "batch", "retry", str(out), "00002") == {"rows": ["00002"]}
    assert answer(capsys, "batch", "status", str(out))["waiting"] == 1
    assert main(["batch", "retry", str(out), "nobody"]) == 2
    assert "ROW: nobody: no such row" in capsys.readouterr().err


def test_a_row_that_waits_again_is_taken_up_by_the_running_batch(tmp_path: Path) -> None:
    tried: list[str] = []
    retried = threading.Event()

    class Once(Painter):
        def make(self, task: Task) -> Any:
            prompt = task.request.payload()["prompt"]
            tried.append(prompt)
            if prompt == "a" and tried.count("a") == 1:
                raise OSError("a disk that was full")
            if prompt == "b" and not retried.is_set():
                journal = open_batch(tmp_path / "out")
                ends = time.monotonic() + 30
                while (
                    not journal.retry([1]) and time.monotonic() < ends
                ):  # until the first attempt has failed
                    time.sleep(0.01)
                journal.close()
                retried.set()
                assert again.wait(30)
            return super().make(task)

    class Other(Once):
        def make(self, task: Task) -> Any:
            made = super().make(task)
            if task.request.payload()["prompt"] == "a":
                again.set()
            return made

    again = threading.Event()
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in "ab"))
    workers = [Other(name=name, lease_s=60.0) for name in "xy"]
    assert paint(rows, tmp_path / "out", workers, keep_going=True).done == 2
    assert tried.count("a") == 2


def test_watch_ends_with_the_batch(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "batch", "watch", str(out), code=1)["done"] == 2


def test_all_rows_are_exported(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("all.csv", "all.jsonl"):
        file = tmp_path / name
        assert answer(capsys, "batch", "export", str(out), "-o", str(file)) == {"rows": 3, "file": str(file)}
    table = list(csv.DictReader(StringIO((tmp_path / "all.csv").read_text())))
    assert [(row["id"], row["state"], row["error"]) for row in table] == [
        ("00001", "done", ""),
        ("00002", "failed", "fails: no such model"),
        ("00003", "done", ""),
    ]
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 3
    assert main(["batch", "export", str(out), "-o", str(tmp_path / "all.xls")]) == 2
    grown = list(csv.DictReader(StringIO((out / "results.csv").read_text())))
    assert [row["id"] for row in grown] == [line["id"] for line in lines(out)]


@pytest.mark.parametrize("command", ["status", "watch", "retry", "cancel"])
def test_a_folder_without_a_batch_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(["batch", command, str(tmp_path)]) == 2
    assert "has no batch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_table_shows_what_each_worker_does(tmp_path: Path) -> None:
    shown = RowTable(StringIO(), ["a", "bb"], clock=lambda: "12:00:00")
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in ("x", "fails", "y")))

    class Looking(Painter):
        def make(self, task: Task) -> Any:
            seen.append(shown.lines())
            return super().make(task)

    seen: list[list[str]] = []
    paint(rows, tmp_path / "out", Looking(name="bb"), shown, keep_going=True)  # type: ignore[arg-type]
    assert seen[0] == ["0 of 3 rows done", "  a   -", "  bb  00001, since 12:00:00"]
    assert seen[2][0].startswith("1 of 3 rows done, 1 failed; about")
    assert shown.lines()[0].startswith("2 of 3 rows done, 1 failed")
    assert "00002 failed: fails: no such model" in shown.stream.getvalue()  # type: ignore[attr-defined]
