"""A job outlives the worker that is lost or silent with it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import WorkerAbsentError, WorkerLostError
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.worker import MadeFile, Task
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.service.job_queue import JobQueue, PostedJob
from wan_duet.pipelines.service.lane import Lane, LaneProgress
from wan_duet.pipelines.service.served_job import ServedJob

from ..fleet.batches import Painter
from .painted import KIND


class Lost(Painter):
    def make(self, task: Task) -> MadeFile:
        raise WorkerLostError("its process was killed")


class Absent(Painter):
    def make(self, task: Task) -> MadeFile:
        raise WorkerAbsentError("the head is gone")


class Silent(Painter):
    """Says nothing until it is let go, and then goes on with its job."""

    go_on = threading.Event()

    def make(self, task: Task) -> MadeFile:
        self.go_on.wait(10)
        made = super().make(task)
        task.beat()
        return made


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "service.sqlite", lambda: 0.0)


def posted(queue: JobQueue) -> ServedJob:
    job = PostedJob(parse(KIND, {"prompt": "a", "seed": 1}), {})
    return queue.accept("ann", job, None, lambda: None)[0]


def lane(queue: JobQueue, worker: Painter, tmp_path: Path) -> Lane:
    made = Lane(worker, queue, BatchFolder(tmp_path / "out"), LaneProgress())
    made._stopping.set()  # so that it does not rest
    return made


def test_a_job_of_a_lost_worker_waits_again_and_fails_at_the_third_loss(
    queue: JobQueue, tmp_path: Path
) -> None:
    job, lost = posted(queue), lane(queue, Lost(name="lost"), tmp_path)
    for _ in range(2):
        assert lost._work_once()
        assert queue.find("ann", job.name).state == "waiting"
    assert lost._work_once()
    failed = queue.find("ann", job.name)
    assert (failed.state, failed.error) == ("failed", "its worker died 3 times: its process was killed")


def test_a_job_waits_as_long_as_no_worker_can_be_reached(queue: JobQueue, tmp_path: Path) -> None:
    job, absent = posted(queue), lane(queue, Absent(name="absent"), tmp_path)
    for _ in range(9):
        assert absent._work_once()
    assert queue.find("ann", job.name).state == "waiting"


def test_a_silent_worker_loses_its_job_and_does_not_publish_when_it_comes_back(
    queue: JobQueue, tmp_path: Path
) -> None:
    job, silent = posted(queue), lane(queue, Silent(name="silent", lease_s=0.0), tmp_path)
    thread = threading.Thread(target=silent._work_once)
    thread.start()
    while queue.find("ann", job.name).state != "running":
        pass
    while queue.find("ann", job.name).state != "waiting":
        silent.look()
    other = lane(queue, Painter(name="other"), tmp_path)
    assert other._work_once()
    Silent.go_on.set()
    thread.join()
    done = queue.find("ann", job.name)
    assert (done.state, done.place, done.attempt) == ("done", "other", 2)
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
