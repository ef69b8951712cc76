"""Fifty paid jobs at once inside one ComfyUI, and a training of a LoRA there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

from ..servers.results import clip, lora
from .test_remote import (  # noqa: F401 - fixtures
    RUNNER,
    T2V,
    Providers,
    loop,
    node,
    providers,
    request,
    servers,
    text_of,
    until,
)

JOBS = 50
LONG_FILM = clip() + bytes(2_000_000)


@pytest.mark.skipif("WAN_DUET_LONG" not in os.environ, reason="takes a third of a minute")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
def test_fifty_jobs_run_at_once_and_the_jobs_panel_follows(
    providers: Providers,  # noqa: F811
    host: HeadlessComfyUI,
    client: ComfyClient,
) -> None:
    server = providers.fal
    server.data, server.run_looks = LONG_FILM, 10**6
    graph = {}
    for number in range(JOBS):
        graph[f"request {number}"] = request(T2V, 4000 + number, host)["request"]
        graph[f"run {number}"] = node(
            "WanDuetRunFal", **RUNNER, request=[f"request {number}", 0], filename_prefix="fifty/clip"
        )
        graph[f"shown {number}"] = node("PreviewAny", source=[f"run {number}", 5])
    mine = set()

    def listed() -> list[dict[str, Any]]:
        rows = client_of_panel.get("/wan_duet/jobs")["jobs"]
        return [row for row in rows if row["job"] in mine or row["state"] in ("submitted", "running")]

    ended: list[Any] = []
    with ComfyClient(host.url) as client_of_panel:
        before = resident_bytes(host.pid)
        run = Thread(target=lambda: ended.append(client.follow(graph, timeout_s=120)), daemon=True)
        run.start()
        until(lambda: sum(row["state"] == "running" for row in listed()) == JOBS, timeout_s=60)
        mine |= {row["job"] for row in listed()}
        server.run_looks = 0
        most = 0
        while run.is_alive():
            most = max(most, resident_bytes(host.pid))
            run.join(0.05)
        assert {row["state"] for row in listed()} == {"done"}
    (job,) = ended
    assert job.status == "success"
    assert {text_of(job, f"shown {number}") for number in range(JOBS)} == mine
    assert len(server.jobs) == JOBS
    assert len(list((host.output / "fifty").glob("*.mp4"))) == JOBS
    assert most - before < 0.8 * JOBS * len(LONG_FILM), "files go to disk as they come"


def test_a_training_needs_consent_and_puts_its_lora_among_the_loras(
    providers: Providers,  # noqa: F811
    host: HeadlessComfyUI,
    client: ComfyClient,
) -> None:
    data = host.input / "balls"
    data.mkdir()
    (data / "a.mp4").write_bytes(clip())
    settings = {
        "dataset": "balls",
        "training": "train-lora-i2v",
        "number_of_steps": 300,
        "learning_rate": 0.0002,
        "trigger_phrase": "blba",
        "auto_scale_input": "provider default",
        "name": "wan_duet_test/balls",
        "consent": False,
        "resubmit": False,
    }
    graph = {"train": node("WanDuetTrainLora", **settings), "shown": node("PreviewAny", source=["train", 0])}
    refused = client.follow(graph, timeout_s=30)
    assert refused.status == "error"
    assert "1 videos" in str(refused.error)
    assert "about $1.50" in str(refused.error)
    assert providers.fal.seen == []
    graph["train"]["inputs"]["dataset"] = "../balls"
    assert "is nothing in ComfyUI's input folder" in str(client.follow(graph, timeout_s=30).error)
    graph["train"]["inputs"] |= {"dataset": "balls", "consent": True}
    done = client.follow(graph, timeout_s=60)
    file = Path(client.get("/wan_duet/jobs")["jobs"][0]["file"])
    try:
        assert text_of(done, "shown") == "wan_duet_test/balls.safetensors"
        assert file.parts[-3:] == ("loras", "wan_duet_test", "balls.safetensors")
        assert file.read_bytes() == lora()
        receipt = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        assert receipt["kind"] == "train-lora-i2v"
        (job,) = providers.fal.jobs.values()
        assert job.body["learning_rate"] == 0.0002
        assert "wan_duet_test/balls.safetensors" in str(client.get("/object_info/LoraLoaderModelOnly"))
    finally:  # in the ComfyUI of the user, whose folder of LoRAs is the first
        shutil.rmtree(file.parent)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
