"""One video of several shots that is bought by nodes: a job for each shot, and one file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.probe import probe

from ..servers import fal
from .test_progress import TEXT, binary_messages
from .test_remote import (  # noqa: F401 - fixtures
    KEYS,
    Providers,
    loop,
    node,
    providers,
    request,
    run_on,
    saved_in,
    started,
    stop_when,
    text_of,
    until,
)

BOARD = "17f: a fox | 17f continue: it jumps | 17f dissolve 2: a ball"


@dataclass
class HoldingFal(fal.FalServer):
    """held: prompts whose jobs stay in the queue."""

    held: set[str] = field(default_factory=set)

    def _move_on(self, job: fal.Job) -> None:
        if job.body["prompt"] in self.held:
            job.looks += 1
        else:
            super()._move_on(job)


@pytest.fixture
def servers(loop: asyncio.AbstractEventLoop) -> Iterator[Providers]:  # noqa: F811 - a fixture
    with started(HoldingFal(key=KEYS["fal"], queue_looks=0, run_looks=0), loop) as made:
        yield made


def film(host: HeadlessComfyUI, seed: int, **changed: object) -> dict[str, Any]:
    inputs = {"prompt": None, "storyboard": BOARD, "interpolator_model": "none", **changed}
    graph = request("WanDuetShots", seed, host, **inputs)
    del graph["request"]["inputs"]["prompt"]
    return run_on(graph, "WanDuetRunFal", slot=4, filename_prefix=f"shots/{seed}")


def waits(server: fal.FalServer, prompt: str) -> bool:
    return any(job.looks and job.body["prompt"] == prompt for job in server.jobs.values())


def prompts(server: fal.FalServer) -> list[str]:
    return [job.body["prompt"] for job in server.jobs.values()]


def test_three_shots_are_three_jobs_and_one_file_and_cost_nothing_again(
    providers: Providers,  # noqa: F811 - a fixture
    host: HeadlessComfyUI,
    client: ComfyClient,
) -> None:
    """The server's clips have 8 frames."""
    graph = film(host, 70)
    done = client.run(graph)
    (file,) = done.outputs["run"]["images"]
    saved = host.output / file["subfolder"] / file["filename"]
    assert probe(saved).frames == 8 + 7 + 6
    receipt = json.loads(text_of(done, "shown 2"))
    beside = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert beside.pop("file")["size_bytes"] == saved.stat().st_size
    assert beside == receipt
    ordered = [shot["job"]["request_id"] for shot in receipt["shots"]]
    assert ordered == list(providers.fal.jobs)
    graph["run"]["inputs"]["filename_prefix"] = "shots/again"  # so that ComfyUI runs the node
    assert client.run(graph).outputs["run"]["images"] == [file]
    assert len(providers.fal.jobs) == 3
    graph["run"]["inputs"]["reuse"] = False
    client.run(graph)
    assert len(providers.fal.jobs) == 6


def test_the_price_of_all_shots_is_told_before_the_first(
    providers: Providers,  # noqa: F811 - a fixture
    host: HeadlessComfyUI,
    client: ComfyClient,
) -> None:
    graph = film(host, 71)
    graph["run"]["inputs"]["max_price_usd"] = 0.2  # enough for one
    with pytest.raises(HostError, match=r"the limit is \$0.20 per run"):
        client.run(graph)
    assert providers.fal.jobs == {}
    graph["run"]["inputs"]["max_price_usd"] = 0
    shown = asyncio.run(binary_messages(host.url, graph, TEXT))
    assert all(b"3 shots; video seconds counted" in text for text in shown)
    assert any(b"shot 2 of 3" in text for text in shown)


def test_a_stop_cancels_the_job_of_its_shot_and_the_next_run_goes_on_there(
    providers: Providers,  # noqa: F811 - a fixture
    host: HeadlessComfyUI,
    client: ComfyClient,
) -> None:
    server = providers.fal
    server.held.add("it jumps")
    graph = film(host, 72)
    stopped = stop_when(client, host, graph, lambda: waits(server, "it jumps"))
    assert stopped.job.status == "interrupted"
    until(lambda: server.summary() == {"jobs": 2, "cancelled": 1})
    assert not saved_in(host.output / "shots" / "72")
    server.held.clear()
    assert client.run(graph).status == "success"
    assert prompts(server) == ["a fox", "it jumps", "it jumps", "a ball"]


def test_shots_go_on_without_another_job_after_comfyui_was_killed(
    servers: Providers, comfyui: Host, tmp_path: Path
) -> None:
    servers.write_settings(tmp_path / "user")
    server = servers.fal
    server.held.add("it jumps")
    extra = ["--user-directory", str(tmp_path / "user"), "--output-directory", str(tmp_path / "output")]
    with HeadlessComfyUI(comfyui, extra_args=extra) as first:
        graph = film(first, 73)
        first.client.queue(graph)
        until(lambda: waits(server, "it jumps"))
        os.kill(first.pid, signal.SIGKILL)
    server.held.clear()
    with HeadlessComfyUI(comfyui, extra_args=extra) as second:
        outputs = second.client.run(graph).outputs
    assert prompts(server) == ["a fox", "it jumps", "a ball"]
    (file,) = saved_in(tmp_path / "output")
    assert probe(file).frames == 8 + 7 + 6
    assert outputs["run"]["images"][0]["filename"] == file.name
    assert [path.name for path in (tmp_path / "user").rglob("*.mp4")] == []


def test_a_provider_without_image_files_refuses_the_shot_that_continues(
    providers: Providers,  # noqa: F811 - a fixture
    host: HeadlessComfyUI,
    client: ComfyClient,
) -> None:
    graph = film(host, 74)
    graph["run"]["class_type"] = "WanDuetRunNovita"
    with pytest.raises(HostError, match=r"shots\[1\].join: .*Novita accepts no image files"):
        client.run(graph)
    graph["request"]["inputs"]["storyboard"] = "a fox | dissolve 2: a ball"
    client.run(graph)
    assert providers.jobs() == {"fal": 0, "novita": 2}
