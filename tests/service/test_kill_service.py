"""The service is killed while it works: the next process makes every accepted job, each once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet.batches import picture

from wan_duet.pipelines.request import parse
from wan_duet.pipelines.service.client_keys import add_client
from wan_duet.pipelines.service.job_queue import JobQueue
from wan_duet.pipelines.service.posted_request import posted_job

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
JOBS = 40


@contextmanager
def process(folder: Path, key: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    paths = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, str(HERE / "killed_service.py"), str(folder)]
    env = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as served:
        assert served.stdout is not None
        url = served.stdout.readline().strip()
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
            yield served, client
        served.kill()


def states(client: httpx.Client) -> list[str]:
    return [job["state"] for job in client.get("/v1/jobs", params={"limit": 100}).json()["data"]]


def until_done(client: httpx.Client, count: int) -> None:
    for _ in range(1000):
        if states(client).count("done") >= count:
            return
        time.sleep(0.02)
    raise AssertionError(states(client))


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_every_accepted_job_outlives_kills(tmp_path: Path) -> None:
    key, wanted = add_client(tmp_path / "keys", "studio"), {}
    with process(tmp_path, key) as (served, client):
        for number in range(JOBS):
            body = {"prompt": f"picture {number}", "seed": number}
            answer = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": str(number)})
            wanted[answer.json()["id"]] = body
        until_done(client, 3)
        os.kill(served.pid, signal.SIGKILL)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.png")}
    assert 3 <= len(times) < JOBS
    with process(tmp_path, key) as (served, client):
        until_done(client, len(times) + 3)
        os.kill(served.pid, signal.SIGKILL)
    with process(tmp_path, key) as (served, client):
        again = client.post("/v1/jobs", json=wanted_first(wanted), headers={"Idempotency-Key": "0"})
        assert (again.status_code, again.json()["id"]) == (200, next(iter(wanted)))
        until_done(client, JOBS)
        served.send_signal(signal.SIGTERM)
        assert served.wait(20) == 0
    made = {file.stem: file.read_bytes() for file in (tmp_path / "out").glob("*.png")}
    assert made == {name: picture(parse("text-to-video", body)) for name, body in wanted.items()}
    for name, body in wanted.items():
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["request"]["seed"] == body["seed"]
    assert all(file.stat().st_mtime_ns == time for file, time in times.items()), "made twice"


def wanted_first(wanted: dict[str, Any]) -> Any:
    return next(iter(wanted.values()))


def test_a_job_that_ends_the_process_each_time_fails_at_last(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "service.sqlite", lambda: 1.0)
    job, _ = queue.accept("studio", posted_job({"prompt": "a"}, "text-to-video"), None, lambda: None)
    for _ in range(3):
        assert queue.take("local") is not None
        queue.resume()  # as the next process does
    ended = queue.find("studio", job.name)
    assert (ended.state, ended.error) == ("failed", "the service died 3 times while it ran this job")
    assert queue.take("local") is None


def test_clients_take_turns(tmp_path: Path) -> None:
    seconds = [0.0]
    queue = JobQueue(tmp_path / "service.sqlite", lambda: seconds[0])
    for client, prompt in (("many", "1"), ("many", "2"), ("many", "3"), ("few", "4")):
        queue.accept(client, posted_job({"prompt": prompt}, "text-to-video"), None, lambda: None)
    order = []
    while (job := queue.take("local")) is not None:
        seconds[0] += 1
        order.append(job.request_fields()["prompt"])
    assert order == ["1", "4", "2", "3"]
