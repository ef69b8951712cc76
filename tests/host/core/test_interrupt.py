"""The Stop button: nothing goes on, nothing stays, and the next run works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.headless.client import ComfyClient, WorkflowProgress
from wan_duet.pipelines.headless.server import HeadlessComfyUI

WORKFLOW = Path(__file__).parents[3] / "workflows" / "api" / "Text to Video (one request).json"
STEPS, FRAMES = 40, 33


class Stopper:
    """Presses Stop once, when the runner is `at` of `total`, and remembers what is reported after that."""

    def __init__(self, client: ComfyClient, total: int, at: int) -> None:
        self.client, self.total, self.at = client, total, at
        self.stopped_at: float | None = None
        self.went_on = 0.0

    def __call__(self, progress: WorkflowProgress) -> None:
        if self.stopped_at is not None:
            self.went_on = max(self.went_on, progress.done - self.stopped_at)
        elif progress.total == self.total and progress.done >= self.at:
            self.stopped_at = progress.done
            self.client.interrupt()


@pytest.mark.parametrize(
    ("total", "at"), [(STEPS, 5), (STEPS, 30), (FRAMES, 5)], ids=["high", "low", "video"]
)
def test_stop_frees_everything_within_a_step(
    core: HeadlessComfyUI, core_client: ComfyClient, total: int, at: int
) -> None:
    before = files(core)
    stop = Stopper(core_client, total, at)
    job = core_client.follow(workflow(seed=total + at, num_inference_steps=STEPS), on_progress=stop)
    assert job.status == "interrupted"
    assert stop.went_on <= 1  # the step that was under way
    assert core_client.get("/queue") == {"queue_running": [], "queue_pending": []}
    assert files(core) == before
    assert alive(core_client) == []
    again = core_client.run(workflow(seed=total + at, num_inference_steps=2))
    assert any(file.name.endswith(".mp4") for file in again.files)


def test_nothing_stays_loaded_after_a_run_either(core_client: ComfyClient) -> None:
    core_client.run(workflow(seed=1, num_inference_steps=2))
    assert alive(core_client) == []


def workflow(**settings: object) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    request = next(node for node in graph.values() if node["class_type"] == "WanDuetTextToVideo")
    request["inputs"].update(settings)
    return graph


def files(comfyui: HeadlessComfyUI) -> set[Path]:
    """But the latents that are kept for the next run: they are finished, and bounded in size."""
    found = (file for folder in (comfyui.temp, comfyui.output) for file in folder.rglob("*"))
    return {file for file in found if file.is_file() and file.parent.name != "wan_duet_latents"}


def alive(client: ComfyClient) -> list[str]:
    """The networks that the process still holds."""
    job = client.run({"process": {"class_type": "ProbeProcess", "inputs": {}}})
    found: list[str] = json.loads(job.outputs["process"]["text"][0])["networks"]
    return found
