"""Several workers carry out a batch: a row has one result, whoever is lost, late, full or cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from wan_duet.pipelines.errors import MediaError, WorkerAbsentError, WorkerLostError
from wan_duet.pipelines.fleet import crew
from wan_duet.pipelines.fleet.batch_run import BatchResult
from wan_duet.pipelines.fleet.retries import FailedAttemptError
from wan_duet.pipelines.fleet.row_journal import JournalRow, RowJournal
from wan_duet.pipelines.fleet.worker import MadeFile, Needs, Task

from .batches import Painter, Watched, manifest, paint, visible, write_rows

LEASE_S = 10.0


class Clock:
    """Seconds that grow when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Remote(Painter):
    """A worker with a lease, that does something else before it paints."""

    def __init__(self, name: str, before: Callable[[Task], None] = lambda _: None) -> None:
        super().__init__(name=name, place="ray", lease_s=LEASE_S)
        self.before = before
        self.closed = 0

    def make(self, task: Task) -> MadeFile:
        self.before(task)
        return super().make(task)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def batch(folder: Path, *prompts: str) -> Path:
    return write_rows(folder / "rows.jsonl", *({"prompt": text, "seed": 1} for text in prompts))


def assert_whole(out: Path, rows: int) -> None:
    names = {f"{number:05}{suffix}" for number in range(1, rows + 1) for suffix in (".png", ".json")}
    assert visible(out) == names
    assert sorted(line["id"] for line in manifest(out)) == sorted(
        f"{number:05}" for number in range(1, rows + 1)
    )
    assert not (out / ".unfinished").exists()


def test_workers_share_the_rows_and_are_closed(tmp_path: Path, out: Path) -> None:
    both = threading.Barrier(2)  # passes when two rows run at the same time
    workers = [Remote(name, lambda _: both.wait(10)) for name in ("a", "b")]
    assert paint(batch(tmp_path, *"1234"), out, workers) == BatchResult(4, 0, 0)
    assert_whole(out, 4)
    assert {line["place"] for line in manifest(out)} == {"a", "b"}
    assert all(worker.closed for worker in workers)


def test_a_worker_that_comes_back_too_late_cannot_publish(
    tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, done = Clock(), threading.Event()

    def stops(task: Task) -> None:
        if task.attempt == 1:
            clock.now += LEASE_S + 1  # nobody hears of it for so long
            assert done.wait(30)
            task.folder.mkdir(parents=True, exist_ok=True)

    class Seen(Watched):
        def ended(self, row: JournalRow) -> None:
            super().ended(row)
            if row.state == "done":
                done.set()

    watched = Seen()
    workers = [Remote(name, stops) for name in ("a", "b")]
    with caplog.at_level("INFO"):
        assert paint(batch(tmp_path, "1"), out, workers, watched, clock=clock).done == 1
    assert watched.rows == [("00001", "waiting"), ("00001", "done")]
    assert "came back with 00001 too late; its file is dropped" in caplog.text
    assert [line["attempt"] for line in manifest(out)] == [2]
    assert visible(out) == {"00001.png", "00001.json"}


def test_a_late_worker_is_told_to_stop(tmp_path: Path, out: Path) -> None:
    clock, taken, told = Clock(), threading.Event(), threading.Event()

    def beats(task: Task) -> None:
        task.beat()
        if not taken.is_set():
            clock.now += LEASE_S + 1
            assert taken.wait(30)
            try:
                task.beat()
            except BaseException:
                told.set()
                raise

    def takes(task: Task) -> None:
        if task.attempt > 1:
            taken.set()
            assert told.wait(30)

    assert paint(batch(tmp_path, "1"), out, [Remote("a", beats), Remote("b", takes)], clock=clock).done == 1
    assert_whole(out, 1)
    assert manifest(out)[0]["place"] == "b"


def test_the_rows_of_a_dead_worker_go_elsewhere(tmp_path: Path, out: Path) -> None:
    def dies(task: Task) -> None:
        (task.folder / "half.png").write_bytes(b"half")
        raise WorkerLostError("it ended")

    watched = Watched()
    assert paint(batch(tmp_path, *"123"), out, [Remote("dead", dies), Remote("b")], watched).done == 3
    assert_whole(out, 3)
    assert {line["place"] for line in manifest(out)} == {"b"}


def test_a_batch_without_workers_says_so_and_keeps_its_rows(tmp_path: Path, out: Path) -> None:
    def dies(task: Task) -> None:
        raise WorkerAbsentError("it ended")

    clock = Clock()
    watched = Watched(at=lambda _: setattr(clock, "now", clock.now + 100))
    rows = batch(tmp_path, *"123")
    with pytest.raises(
        WorkerLostError, match="every worker is lost, and 3 rows wait; the last error: it ended"
    ):
        paint(rows, out, [Remote("dead", dies)], watched, clock=clock)
    assert [row.state for row in RowJournal(out / "batch.sqlite", lambda: 0).rows()] == ["waiting"] * 3
    assert paint(rows, out).done == 3


def test_memory_that_is_full_is_met_with_less_of_the_model(tmp_path: Path, out: Path) -> None:
    asked: list[tuple[str, int]] = []

    def full(name: str, enough: int) -> Callable[[Task], None]:
        def make(task: Task) -> None:
            asked.append((name, task.smaller))
            if task.smaller < enough:
                raise FailedAttemptError("out of memory", "CUDA out of memory")

        return make

    assert paint(batch(tmp_path, "1"), out, [Remote("a", full("a", 1))]).done == 1
    assert asked == [("a", 0), ("a", 1)]
    result = paint(batch(tmp_path, "2"), out, [Remote("a", full("a", 9))])
    assert (result.failed, asked[2:]) == (1, [("a", 0), ("a", 1), ("a", 2)])
    journal = RowJournal(out / "batch.sqlite", lambda: 0)
    assert (journal.row(2).cause, journal.row(2).error) == ("out of memory", "CUDA out of memory")


def test_a_request_that_fails_is_made_once(tmp_path: Path, out: Path) -> None:
    tried: list[str] = []

    def fails(task: Task) -> None:
        tried.append(task.name)
        raise MediaError("no such file")

    result = paint(batch(tmp_path, *"12"), out, [Remote("a", fails), Remote("b", fails)], keep_going=True)
    assert (result.failed, sorted(tried)) == (2, ["00001", "00002"])


def test_a_cancelled_row_is_not_begun_and_a_running_one_is_not_published(tmp_path: Path, out: Path) -> None:
    def cancels(task: Task) -> None:
        other = RowJournal(out / "batch.sqlite", lambda: 0)
        other.cancel([1, 2])
        other.close()

    rows = batch(tmp_path, *"123")
    assert paint(rows, out, Remote("a", cancels)) == BatchResult(done=1, failed=0, waiting=0, cancelled=2)
    assert visible(out) == {"00003.png", "00003.json"}
    assert paint(rows, out).cancelled == 2, "they stay cancelled"
    journal = RowJournal(out / "batch.sqlite", lambda: 0)
    assert [row.number for row in journal.retry([1, 2, 3])] == [1, 2]
    assert paint(rows, out).done == 3


def test_a_row_goes_to_a_place_that_can_do_it(tmp_path: Path, out: Path) -> None:
    local = Painter()
    local.lease_s = LEASE_S
    able = Remote("able")
    able.check = lambda _: Needs(1.0)  # type: ignore[method-assign]
    assert paint(batch(tmp_path, "impossible", "2"), out, [local, able]).done == 2
    assert {line["id"]: line["place"] for line in manifest(out)}["00001"] == "able"


def test_a_stop_closes_the_workers_and_lets_their_rows_wait(tmp_path: Path, out: Path) -> None:
    ended = threading.Event()

    def works(task: Task) -> None:
        assert ended.wait(30)
        raise WorkerLostError("closed")

    class Stopped(Remote):
        def close(self) -> None:
            ended.set()

    def stop(step: str) -> None:
        if step == "row ended":
            raise KeyboardInterrupt

    rows = batch(tmp_path, *"12")
    workers = [Stopped("a", works), Stopped("b", lambda task: None)]
    with pytest.raises(KeyboardInterrupt):
        paint(rows, out, workers, Watched(at=stop))
    states = [row.state for row in RowJournal(out / "batch.sqlite", lambda: 0).rows()]
    assert sorted(states) == ["done", "waiting"]
    assert paint(rows, out).done == 2
    assert_whole(out, 2)


class Silent(Remote):
    """Says nothing until it is closed."""

    def __init__(self, clock: Clock, step_s: float) -> None:
        super().__init__("silent", self._wait)
        self.clock, self.step_s, self.ended = clock, step_s, threading.Event()

    def _wait(self, task: Task) -> None:
        while not self.ended.wait(0.02):
            self.clock.now += self.step_s

    def close(self) -> None:
        super().close()
        self.ended.set()


def test_a_silent_worker_is_waited_for_some_minutes_when_there_is_no_other(tmp_path: Path, out: Path) -> None:
    clock = Clock()
    with pytest.raises(WorkerLostError, match="every worker is lost, and 1 rows wait"):
        paint(batch(tmp_path, "1"), out, [Silent(clock, 5.0)], clock=clock)
    assert 600 <= clock.now < 3600


@pytest.mark.parametrize(("asleep_s", "attempt"), [(7.0, 1), (0.0, 2)])
def test_after_a_sleep_of_this_process_nobody_is_taken_for_lost(
    asleep_s: float, attempt: int, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, slept = Clock(), Clock()
    monkeypatch.setattr(crew, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + slept.now))

    def sleeps(task: Task) -> None:
        if task.attempt == 1:
            clock.now, slept.now = LEASE_S + 1, asleep_s
            time.sleep(1.5)  # the watch looks twice a second

    assert paint(batch(tmp_path, "1"), out, [Remote("a", sleeps), Remote("b", sleeps)], clock=clock).done == 1
    assert [line["attempt"] for line in manifest(out)] == [attempt]
