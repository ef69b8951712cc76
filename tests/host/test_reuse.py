"""What follows sampling costs decoding and encoding alone, and so does a file that was deleted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "Text to Video (one request).json"


@pytest.fixture
def graph() -> dict[str, Any]:
    """The shipped workflow with few steps, its nodes under short names, and its receipt shown."""
    shipped = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    kinds = {"WanDuetTextToVideo": "request", "WanDuetRunLocal": "run", "SaveVideo": "save"}
    names = {name: kinds.get(item["class_type"], name) for name, item in shipped.items()}
    for item in shipped.values():
        for key, value in item["inputs"].items():
            if isinstance(value, list):
                item["inputs"][key] = [names[value[0]], value[1]]
    graph = {names[name]: item for name, item in shipped.items()}
    graph["request"]["inputs"] |= {"num_inference_steps": 2, "interpolator_model": "none"}
    graph["shown"] = {"class_type": "PreviewAny", "inputs": {"source": ["run", 4]}}
    return graph


def receipt_of(client: ComfyClient, graph: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(client.run(graph).outputs["shown"]["text"][0])
    return shown


def test_another_quality_file_name_or_reversing_samples_no_second_time(
    client: ComfyClient, graph: dict[str, Any]
) -> None:
    graph["request"]["inputs"]["seed"] = 101
    first = receipt_of(client, graph)
    assert "latents_reused" not in first
    request, run = graph["request"]["inputs"], graph["run"]["inputs"]
    for inputs, change in (
        (request, {"video_quality": "low"}),
        (request, {"reverse_video": "on"}),
        (run, {"filename_prefix": "other", "save": True}),
    ):
        inputs |= change
        again = receipt_of(client, graph)
        assert again["latents_reused"], change
        assert set(again["timings_s"]) == {"video"}
        assert again["latents_sha256"] == first["latents_sha256"]
    request["seed"] = 102
    assert "latents_reused" not in receipt_of(client, graph)


def test_a_cached_video_that_was_deleted_is_made_again(
    host: HeadlessComfyUI, client: ComfyClient, graph: dict[str, Any]
) -> None:
    graph["request"]["inputs"]["seed"] = 103
    graph["run"]["inputs"]["filename_prefix"] = "lost/one"
    client.run(graph)
    (file,) = host.temp.rglob("lost/one_*.mp4")
    file.unlink()
    graph["save"]["inputs"]["filename_prefix"] = "lost/kept"
    assert receipt_of(client, graph)["latents_reused"]
    assert list(host.output.glob("lost/kept_*.mp4"))
    ran: set[str] = set()
    graph["save"]["inputs"]["filename_prefix"] = "lost/again"
    client.run(graph, on_progress=lambda progress: ran.add(progress.node_id))
    assert "run" not in ran  # what was made again is cached as before
    assert list(host.output.glob("lost/again_*.mp4"))


@pytest.mark.parametrize("slot", ["model", "low_model", "vae", "text_encoder"])
def test_a_missing_model_is_told_once_under_its_widget(
    client: ComfyClient, graph: dict[str, Any], slot: str
) -> None:
    (loader,) = (item for item in graph.values() if item["class_type"] == "WanDuetLoadModel")
    loader["inputs"][slot] = "gone.safetensors"
    with pytest.raises(HostError, match=rf"{slot}: 'gone\.safetensors' not in models/") as refused:
        client.run(graph)
    assert str(refused.value).count("gone.safetensors") == 1


def test_an_error_begins_with_a_short_class_name(client: ComfyClient, graph: dict[str, Any]) -> None:
    graph["request"]["inputs"]["enable_prompt_expansion"] = "on"
    job = client.follow(graph)
    messages = dict(client.get(f"/history/{job.prompt_id}")[job.prompt_id]["status"]["messages"])
    assert messages["execution_error"]["exception_type"] == "wan_duet.RequestError"
