"""The jobs of Run Fleet are told as a batch is, from what the service says of them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from wan_duet.pipelines.service.fleet_address import keep_address
from wan_duet.pipelines.service.fleet_progress import fleet_progress

from .painted import Served, served


def connected(service: Served, folder: Path) -> Path:
    key = service.http.headers["Authorization"].removeprefix("Bearer ")
    keep_address(folder, service.url, key)
    return folder


def test_the_jobs_of_the_key_are_told_as_a_batch(tmp_path: Path) -> None:
    async def look() -> tuple[dict[str, Any], dict[str, Any]]:
        async with served(tmp_path, usd_per_hour=3600.0) as service:
            settings = connected(service, tmp_path / "settings")
            for prompt in ("a red ball", "fails at /home/me/ball.png"):
                _, job = await service.post(prompt)
                await service.until(job["id"], "done", "failed")
            _, slow = await service.post("slow", num_frames=33)
            await service.post("slow too", num_frames=17)
            await service.until(slow["id"], "running")
            now = time.time() + 5
            running = await asyncio.to_thread(fleet_progress, settings, now)
            for job in (await service.call("GET", "/v1/jobs"))[1]["data"][:2]:
                await service.call("POST", f"/v1/jobs/{job['id']}/cancel")
            await service.until(slow["id"], "cancelled")
            over = await asyncio.to_thread(fleet_progress, settings, now)
            assert running is not None
            assert over is not None
            return running, over

    running, over = asyncio.run(look())
    assert running["batch"].startswith("Run Fleet at 127.0.0.1:")
    states = ("rows", "done", "failed", "running", "waiting", "is_over")
    assert [running[state] for state in states] == [4, 1, 1, 1, 1, False]
    (now_running,) = running["now"]
    assert (now_running["place"], now_running["attempt"]) == ("local", 1)
    assert 4 < now_running["since_s"] < 15
    assert running["left_s"] is not None
    assert running["usd"] == pytest.approx(running["seconds"], abs=0.1)
    (failed,) = running["errors"]
    assert "fails at …/ball.png" in failed["error"]
    assert (over["cancelled"], over["is_over"], over["left_s"]) == (2, True, None)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (httpx.Response(401, json={"error": {"message": "no such key"}}), "the service refuses: no such key"),
        (httpx.Response(200, json={"data": [{"id": "x"}]}), "no answer of a wan-duet serve"),
        (httpx.Response(200, json={"data": ["x"]}), "no answer of a wan-duet serve"),
        (httpx.Response(200, json={}), "no answer of a wan-duet serve"),
        (httpx.Response(200, text="<html>"), "no answer of a wan-duet serve: status 200"),
        (httpx.Response(302, headers={"Location": "http://elsewhere"}), "the service refuses: status 302"),
    ],
)
def test_what_is_no_list_of_jobs_is_a_problem(tmp_path: Path, answer: httpx.Response, problem: str) -> None:
    keep_address(tmp_path, "https://gpu.example", "wd-key")
    told = fleet_progress(tmp_path, 0.0, httpx.MockTransport(lambda _: answer))
    assert told == {"batch": "Run Fleet at gpu.example (newest 100 jobs)", "problem": problem}


def test_a_damaged_address_is_a_problem_without_its_folder(tmp_path: Path) -> None:
    assert fleet_progress(tmp_path, 0.0) is None
    keep_address(tmp_path, "https://gpu.example", "wd-key")
    (tmp_path / "fleet.json").write_text("{")
    told = fleet_progress(tmp_path, 0.0)
    assert told is not None
    assert told["problem"] == "…/fleet.json: damaged; run wan-duet clients connect ADDRESS again"
