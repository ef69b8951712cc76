"""Jobs are bought while too many wait here: within all limits, never twice, and back here if refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RefusedError, RequestError
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.worker import MadeFile, Task
from wan_duet.pipelines.request import WanRequest, parse
from wan_duet.pipelines.service.client_keys import ServiceClient
from wan_duet.pipelines.service.job_queue import JobQueue, PostedJob
from wan_duet.pipelines.service.lane import Lane, LaneProgress
from wan_duet.pipelines.service.overflow import Overflow
from wan_duet.pipelines.service.served_job import ServedJob

from ..fleet.batches import Painter
from .painted import KIND

PRICE = 0.25


@dataclass
class Desk:
    """A queue and its overflow. Every client is known; those in `limits` may spend only so much."""

    queue: JobQueue
    limits: dict[str, float] = field(default_factory=dict)

    def overflow(self, above: int = 0, usd_per_day: float = 100.0) -> Overflow:
        return Overflow(self.queue, self.clients, self.price, above, usd_per_day)

    def clients(self) -> list[ServiceClient]:
        return [ServiceClient(name, "", self.limits.get(name)) for name in ("ann", "bob")]

    @staticmethod
    def price(request: WanRequest) -> float | None:
        prompt = str(request.payload()["prompt"])
        if "impossible" in prompt:
            raise RequestError.of("prompt", "it cannot be drawn there", "give another")
        return None if "unknown" in prompt else PRICE

    def post(self, *prompts: str, client: str = "ann", kind: str = KIND, **fields: Any) -> list[ServedJob]:
        posted = [PostedJob(parse(kind, {"prompt": prompt, "seed": 1, **fields}), {}) for prompt in prompts]
        return [self.queue.accept(client, one, None, lambda: None)[0] for one in posted]

    def now(self, job: ServedJob) -> ServedJob:
        return self.queue.find(job.client, job.name)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    queue = JobQueue(tmp_path / "service.sqlite", lambda: 1_800_000_000.0, usd_per_hour=1.0)
    yield Desk(queue)
    queue.close()


def prompt_of(job: ServedJob | None) -> str | None:
    return None if job is None else str(job.request_fields()["prompt"])


def test_a_job_is_bought_only_while_more_wait_than_allowed(desk: Desk) -> None:
    desk.post("a", "b", "c")
    overflow = desk.overflow(above=2)
    assert prompt_of(overflow.take("fal-1")) == "a"
    assert overflow.take("fal-1") is None
    assert prompt_of(desk.queue.take("local")) == "b"


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ("impossible", {}),
        ("of unknown price", {}),
        ("with a file of ours", {"kind": f"{KIND}-lora", "loras": [{"path": "toy/outlined"}]}),
    ],
)
def test_what_cannot_be_bought_waits_for_a_worker_here(
    desk: Desk, prompt: str, fields: dict[str, Any]
) -> None:
    desk.post(prompt, **fields)
    assert desk.overflow().take("fal-1") is None
    assert prompt_of(desk.queue.take("local")) == prompt


def test_the_limit_of_a_key_counts_what_runs_at_its_highest_price(desk: Desk) -> None:
    desk.limits["ann"] = 2 * PRICE
    desk.post("a1", "a2", "a3")
    desk.post("b1", client="bob")
    overflow = desk.overflow()
    bought = [prompt_of(overflow.take("fal-1")) for _ in range(4)]
    assert sorted(filter(None, bought)) == ["a1", "a2", "b1"]
    assert desk.queue.use_of("ann", 0.0).usd == 2 * PRICE


def test_all_bought_jobs_of_a_day_have_one_limit(desk: Desk) -> None:
    desk.post("a", "b", "c")
    overflow = desk.overflow(usd_per_day=2.9 * PRICE)
    assert [prompt_of(overflow.take("fal-1")) for _ in range(3)] == ["a", "b", None]


def test_a_job_whose_purchase_began_stays_there_through_restarts_and_costs_once(desk: Desk) -> None:
    (job,) = desk.post("a")
    assert desk.overflow().take("fal-1") is not None
    for _ in range(4):  # more deaths than a job that ran here may have
        assert desk.queue.resume() == []
        assert desk.now(job).state == "waiting"
        assert desk.queue.take("local") is None
        assert prompt_of(desk.overflow(above=5).take("fal-2")) == "a"
    done = desk.queue.publish(desk.now(job), 1000.0, file="a.mp4")
    assert (done.usd, done.seconds) == (PRICE, 0.0)


class Refusing(Painter):
    def make(self, task: Task) -> MadeFile:
        raise RefusedError("the limit of the user is reached", provider="fal")


def test_a_job_that_is_refused_there_is_made_here_and_costs_nothing_there(desk: Desk, tmp_path: Path) -> None:
    (job,) = desk.post("a")
    folder, overflow = BatchFolder(tmp_path / "out"), desk.overflow()
    lane = Lane(Refusing(name="fal-1"), desk.queue, folder, LaneProgress(), overflow)
    assert lane._work_once()
    assert (desk.now(job).state, desk.now(job).usd) == ("waiting", 0.0)
    assert not lane._work_once(), "asked again"
    here = Lane(Painter(), desk.queue, folder, LaneProgress())
    assert here._work_once()
    assert (desk.now(job).state, desk.now(job).place) == ("done", "local")
