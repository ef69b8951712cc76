"""The templates for real weights run on tiny files of the published names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from real_names import write_real_names

from tools.template_list import TEMPLATES, Template
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.request import class_of
from wan_duet.pipelines.request.shots_request import SHOTS

from .test_workflows import add, id_of, text_of, video_of, workflow

# ComfyUI builds no text encoder as small as that of the tiny files: core/test_host_requests.py runs that one.
# The shots of a storyboard have sizes and lengths of their own: test_drawings.py and test_shots.py run it.
RUNNING = [template for template in TEMPLATES if not template.of_comfyui and template.kind != SHOTS]
QUICK = {"num_frames": 17, "num_inference_steps": 2, "duration": 1.0}  # the four-step kinds have 81 frames
SIDE = 64  # no kind has a size as small among its own


@pytest.fixture(scope="module", autouse=True)
def published(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A tiny file for each that a template selects, only while these tests run: others find what fits."""
    made = tmp_path_factory.mktemp("published")
    write_real_names(made)
    files = [file.relative_to(made) for file in made.rglob("*") if file.is_file()]
    for file in files:
        shutil.move(made / file, models / file)
    yield
    for file in files:
        (models / file).unlink()


def quick_graph(template: Template) -> dict[str, Any]:
    """The graph of a template with few frames, and with a size of our own for its request."""
    default = class_of(template.kind).model_fields["resolution"].default  # any other asks for a size, too
    graph = workflow(template.name, **QUICK, resolution=default)
    request = [id_of(graph, template.node), 0]
    users = [item["inputs"] for item in graph.values() if item["inputs"].get("request") == request]
    sized = add(graph, "WanDuetRequestLocal", request=request, width=SIDE, height=SIDE)
    for inputs in users:
        inputs["request"] = [sized, 0]
    return graph


@pytest.mark.parametrize("template", RUNNING, ids=lambda template: template.name)
def test_a_template_runs_on_tiny_files_of_the_same_names(
    client: ComfyClient, tmp_path: Path, template: Template
) -> None:
    graph = quick_graph(template)
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    job = client.run(graph)
    facts = video_of("SaveVideo", client, job, graph, tmp_path)
    written = json.loads(text_of(job, receipt))
    plan = written["plan"]
    assert (facts.width, facts.height, facts.frames) == (SIDE, SIDE, plan["frames_out"])
    assert facts.fps == Fraction(plan["fps_out"])
    answer, files = text_of(job, id_of(graph, "WanDuetCheck")), template.files
    assert f"can run (local on {template.model if files is None else files.family})" in answer
    used = json.dumps(written["model"])
    assert files is None or [file.name for file in files.files if file.name not in used] == []
