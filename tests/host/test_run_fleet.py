"""Run Fleet in a real ComfyUI, against a service on this machine that paints pictures."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.service.fleet_address import keep_address

from ..service.painted import Served, running
from .test_workflows import workflow

IMAGE = "WanDuetTextToImage"


@pytest.fixture
def service(tmp_path: Path, host: HeadlessComfyUI) -> Iterator[Served]:
    with running(tmp_path) as found:
        key = found.http.headers["Authorization"].removeprefix("Bearer ")
        keep_address(host.user / "__wan_duet", found.url, key)
        yield found
    (host.user / "__wan_duet" / "fleet.json").unlink(missing_ok=True)


def graph(host: HeadlessComfyUI, prompt: str, seed: int) -> dict[str, Any]:
    (info,) = host.client.get(f"/object_info/{IMAGE}").values()
    required = info["input"]["required"].items()
    settings = {name: item[1]["default"] for name, item in required if "default" in item[1]}
    asked = {**settings, "prompt": prompt, "seed": seed}
    fleet = {"request": ["request", 0], "filename_prefix": "fleet/made", "return_images": False}
    return {
        "request": {"class_type": IMAGE, "inputs": asked},
        "run": {"class_type": "WanDuetRunFleet", "inputs": fleet},
        "images": {"class_type": "PreviewImage", "inputs": {"images": ["run", 1]}},
        "receipt": {"class_type": "PreviewAny", "inputs": {"source": ["run", 4]}},
        "job": {"class_type": "PreviewAny", "inputs": {"source": ["run", 5]}},
    }


def stop_once_it_runs(service: Served, host: HeadlessComfyUI) -> None:
    """Press Stop in ComfyUI as soon as the service runs a job."""

    def press() -> None:
        while service.service.lanes[0].job is None:
            time.sleep(0.02)
        with ComfyClient(host.url) as other:
            other.interrupt()

    threading.Thread(target=press, daemon=True).start()


def test_a_result_of_the_fleet_lands_in_output_with_its_receipt(
    service: Served, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    done = client.run(graph(host, "a (red:1.4) ball", 41))
    (file,) = (file for file in done.files if file.node_id == "run")
    assert (file.folder, file.subfolder) == ("output", "fleet")
    saved = host.output / file.subfolder / file.name
    receipt = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert json.loads(str(done.outputs["receipt"]["text"][0])) == receipt
    assert (receipt["request"]["prompt"], receipt["request"]["seed"]) == ("a (red:1.4) ball", 41)
    (said,) = done.outputs["run"]["wan_duet_findings"]
    assert said == receipt["findings"][0]
    (job,) = service.queue.jobs("client-0", 10)
    assert (job.state, job.kind) == ("done", "text-to-image")
    assert str(done.outputs["job"]["text"][0]) == job.name
    assert len(done.outputs["images"]["images"]) == 1
    told = client.get("/wan_duet/batches/fleet")
    assert told["batch"].startswith(f"Run Fleet at {service.url.removeprefix('http://')} ")
    assert (told["rows"], told["done"]) == (1, 1)


def test_the_fleet_is_a_home_of_the_template_and_runs_alone(
    service: Served, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    graph = workflow("Same request, here or there", prompt="slow", seed=5)
    (switch,) = (node for node in graph.values() if node["_meta"]["title"] == "At your fleet")
    switch["inputs"]["switch"] = True
    ran: set[str] = set()

    stop_once_it_runs(service, host)
    client.follow(graph, on_progress=lambda progress: ran.add(graph[progress.node_id]["class_type"]))
    (job,) = service.queue.jobs("client-0", 10)
    assert job.request_fields()["seed"] == 5
    assert {kind for kind in ran if kind.startswith("WanDuetRun")} == {"WanDuetRunFleet"}


def test_a_stop_cancels_the_job_at_the_fleet(
    service: Served, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    stop_once_it_runs(service, host)
    assert client.follow(graph(host, "slow", 42), timeout_s=60).status == "interrupted"
    (row,) = service.queue.jobs("client-0", 10)
    assert row.state == "cancelled"


def test_what_the_service_refuses_is_told_by_field(
    service: Served, host: HeadlessComfyUI, client: ComfyClient
) -> None:
    with pytest.raises(HostError, match="prompt: it cannot be drawn; give another"):
        client.run(graph(host, "impossible", 43))


def test_without_an_address_the_node_says_what_to_run(host: HeadlessComfyUI, client: ComfyClient) -> None:
    with pytest.raises(HostError, match="clients connect"):
        client.run(graph(host, "a ball", 44))
