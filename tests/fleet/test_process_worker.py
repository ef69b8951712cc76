"""Workers in processes of their own: killed, stopped and woken, orphaned. Each row still has one result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import WorkerAbsentError
from wan_duet.pipelines.fleet.batch_run import BatchResult
from wan_duet.pipelines.fleet.process_worker import ProcessWorker
from wan_duet.pipelines.fleet.retries import FailedAttemptError
from wan_duet.pipelines.fleet.row_journal import RowJournal
from wan_duet.pipelines.fleet.worker import Task
from wan_duet.pipelines.request import parse

from .batches import Painter, Watched, manifest, paint, visible, write_rows
from .process_painter import SlowPainter, no_painter

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="SIGSTOP and kill -9 are POSIX")
ROOT = Path(__file__).parents[2]


def worker(name: str, wait: Path | None = None, lease_s: float = 20.0) -> ProcessWorker:
    return ProcessWorker(name, Painter().check, partial(SlowPainter, wait=wait), lease_s=lease_s)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def wait(tmp_path: Path) -> Iterator[Path]:
    """While this file is there, rows wait amid their making."""
    file = tmp_path / "wait"
    file.touch()
    yield file
    file.unlink(missing_ok=True)


def batch(folder: Path, *prompts: str) -> Path:
    return write_rows(folder / "rows.jsonl", *({"prompt": text, "seed": 1} for text in prompts))


def pid_of(wait: Path, row: str) -> int:
    return _until(lambda: int(wait.with_name(f"{row}.pid").read_text() or 0))


def _until(find: Callable[[], int], limit_s: float = 30.0) -> int:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if found := find():
                return found
        except FileNotFoundError:
            pass
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_killed_process_costs_its_row_time_only(tmp_path: Path, out: Path, wait: Path) -> None:
    watched = Watched()

    def kill() -> None:
        os.kill(pid_of(wait, "00001"), signal.SIGKILL)
        wait.unlink()

    killer = in_background(kill)
    result = paint(batch(tmp_path, *"123"), out, [worker("a", wait), worker("b", wait)], watched)
    killer.join()
    assert result == BatchResult(3, 0, 0)
    assert ("00001", "waiting") in watched.rows
    assert sorted(line["id"] for line in manifest(out)) == ["00001", "00002", "00003"]
    assert len(visible(out)) == 6
    assert not (out / ".unfinished").exists()


def test_a_process_that_sleeps_and_wakes_loses_its_row(
    tmp_path: Path, out: Path, wait: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched, woken = Watched(), threading.Event()

    def stop_and_wake() -> None:
        pid = pid_of(wait, "00001")
        pid_of(wait, "00002")  # the other process is there too
        os.kill(pid, signal.SIGSTOP)
        wait.unlink()
        _until(lambda: ("00001", "done") in watched.rows)
        os.kill(pid, signal.SIGCONT)
        woken.set()

    waker = in_background(stop_and_wake)
    workers = [worker("a", wait, lease_s=3.0), worker("b", wait, lease_s=3.0)]
    assert paint(batch(tmp_path, *"12"), out, workers, watched).done == 2
    waker.join()
    assert [state for name, state in watched.rows if name == "00001"] == ["waiting", "done"]
    (line,) = (line for line in manifest(out) if line["id"] == "00001")
    assert line["attempt"] == 2
    assert len(manifest(out)) == 2
    assert len(visible(out)) == 4


def test_a_cancelled_row_stops_in_its_process(tmp_path: Path, out: Path, wait: Path) -> None:
    def cancel() -> None:
        pid_of(wait, "00001")
        journal = RowJournal(out / "batch.sqlite", time.time)
        journal.cancel([1])
        journal.close()

    canceller = in_background(cancel)
    assert paint(batch(tmp_path, "1"), out, [worker("a", wait)]).cancelled == 1
    canceller.join()
    assert wait.exists(), "the row did not wait until its end"
    assert visible(out) == set()


def test_what_went_wrong_in_the_process_is_told(tmp_path: Path, out: Path) -> None:
    rows = batch(tmp_path, "memory", "fault", "fails", "fine")
    assert paint(rows, out, [worker("a")], keep_going=True) == BatchResult(1, 3, 0)
    journal = RowJournal(out / "batch.sqlite", lambda: 0)
    assert [(row.cause, row.error, row.attempt) for row in journal.rows()] == [
        ("out of memory", "the device is full", 3),
        ("failed", "ZeroDivisionError: a fault of ours", 1),
        ("failed", "fails: no such model", 1),
        (None, None, 1),
    ]


def task(folder: Path, prompt: str) -> Task:
    return Task(parse("text-to-video", {"prompt": prompt, "seed": 1}), folder, "row")


def test_a_process_that_lost_what_it_joined_is_replaced(tmp_path: Path) -> None:
    one, pids = worker("a"), []
    for _ in range(2):
        with pytest.raises(FailedAttemptError, match="the head is gone"):
            one.make(task(tmp_path, "lost"))
        pids.append(one.pid)
    assert one.make(task(tmp_path, "fine")).path.exists()
    assert one.pid not in pids
    assert len(set(pids)) == 2
    one.close()


def test_a_process_that_ends_before_its_worker_is_there_has_not_begun_the_row(tmp_path: Path) -> None:
    one = ProcessWorker("a", Painter().check, no_painter)
    with pytest.raises(WorkerAbsentError, match="ended with code 1"):
        one.make(task(tmp_path, "fine"))
    one.close()


_DRIVER = """
import sys
from pathlib import Path
from tests.fleet.batches import paint
from tests.fleet.test_process_worker import worker

if __name__ == "__main__":
    rows, out, wait = map(Path, sys.argv[1:])
    paint(rows, out, [worker("a", wait)])
"""


def test_the_process_of_a_killed_driver_ends_and_the_next_driver_goes_on(
    tmp_path: Path, out: Path, wait: Path
) -> None:
    rows = batch(tmp_path, *"12")
    (tmp_path / "driver.py").write_text(_DRIVER)
    command = [sys.executable, str(tmp_path / "driver.py"), str(rows), str(out), str(wait)]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as driver:
        pid = pid_of(wait, "00001")
        driver.kill()
    _until(lambda: not Path(f"/proc/{pid}").exists() or _is_dead(pid))
    wait.unlink()
    assert paint(rows, out, [worker("a")]).done == 2
    assert len(visible(out)) == 4


def _is_dead(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
