"""`wan-duet serve` and `batch run` as a user starts them, with workers in other processes and on a fleet."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from wan_duet.pipelines.service.client_keys import add_client
from wan_duet.pipelines.video.probe import probe

TINY: dict[str, Any] = {
    "prompt": "a red ball",
    "num_frames": 5,
    "num_inference_steps": 2,
    "interpolator_model": "none",
    "local": {"width": 64, "height": 64},
}
JOBS = 3
PATIENCE_S = 240.0

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends its processes with signals of POSIX")
on_ray = pytest.param(
    ["--on", "ray", "--workers", "2"],
    marks=pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    id="ray",
)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "wan_duet", *map(str, arguments)]


@pytest.mark.parametrize("places", [pytest.param(["--workers", "2"], id="two processes"), on_ray])
def test_serve_makes_jobs_with_several_workers_and_ends_with_all_its_processes(
    tmp_path: Path, places: list[str]
) -> None:
    key = add_client(tmp_path / "keys", "studio")
    given = ("serve", "--model", "toy", "-o", tmp_path / "out", "--folder", tmp_path / "keys")
    with (tmp_path / "log").open("wb") as log:
        served = subprocess.Popen(
            command(*given, "--port", "0", "--json", *places), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert served.stdout is not None
        line = served.stdout.readline()
        assert line, (tmp_path / "log").read_text()
        url, headers = json.loads(line)["url"], {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            assert client.get("/health").json()["lanes"] == 2
            for seed in range(JOBS):
                assert client.post("/v1/jobs", json={**TINY, "seed": seed}).status_code == 202
            done = until_done(client)
            for job in done:
                file = tmp_path / f"{job['id']}.mp4"
                file.write_bytes(client.get(f"/v1/jobs/{job['id']}/result").content)
                assert probe(file).frames == TINY["num_frames"]
                assert client.get(f"/v1/jobs/{job['id']}/receipt").json()["kind"] == "text-to-video"
        below = psutil.Process(served.pid).children(recursive=True)
        assert len(below) >= 2
        served.send_signal(signal.SIGTERM)
        assert served.wait(60) == 0
        assert not psutil.wait_procs(below, timeout=30)[1], "a process is left"
    finally:
        served.kill()
        served.wait()


def until_done(client: httpx.Client) -> list[dict[str, Any]]:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        jobs: list[dict[str, Any]] = client.get("/v1/jobs").json()["data"]
        assert not [job for job in jobs if job["state"] == "failed"], jobs
        if all(job["state"] == "done" for job in jobs):
            return jobs
        time.sleep(0.3)
    raise AssertionError(jobs)


@pytest.mark.parametrize("places", [on_ray])
def test_a_batch_runs_on_a_private_fleet(tmp_path: Path, places: list[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({**TINY, "seed": seed}) + "\n" for seed in range(JOBS)))
    given = ("batch", "run", rows, "--model", "toy", "-o", tmp_path / "out", "--folder", tmp_path / "keys")
    made = subprocess.run(
        command(*given, "--yes", *places), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert made.returncode == 0, made.stderr
    videos = sorted((tmp_path / "out").glob("*.mp4"))
    assert [probe(video).frames for video in videos] == [TINY["num_frames"]] * JOBS
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert all("127.0.0.1" in row["place"] for row in results)
