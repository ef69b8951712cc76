"""The templates for real weights list what is missing, and run on tiny files of the same names.

Every workflow is opened in both canvases.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from real_names import write_real_names

from tools.template_list import TEMPLATES, Template
from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.request import class_of
from wan_duet.pipelines.video.image import image_bytes

from .test_browser import LACKING, SKIPPED, in_browser
from .test_workflows import add, id_of, text_of, video_of

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = sorted(file.stem for file in WORKFLOWS.glob("*.json"))
REAL = [template for template in TEMPLATES if template.size is not None]
# ComfyUI builds no text encoder as small as that of the tiny files: core/test_host_requests.py runs that one.
RUNNING = [template for template in TEMPLATES if not template.of_comfyui]
(APP,) = (template for template in TEMPLATES if template.app)
# Less of everything; the four-step kinds always have 81 frames and four steps.
QUICK = {"num_frames": 17, "num_inference_steps": 2, "aspect_ratio": "1:1", "duration": 1.0}


def quick_api_of(template: Template) -> dict[str, Any]:
    graph = api_of(template)
    smallest, *_ = get_args(class_of(template.kind).model_fields["resolution"].annotation)
    for node in graph.values():
        less = {**QUICK, "resolution": smallest}
        node["inputs"].update({name: value for name, value in less.items() if name in node["inputs"]})
    return graph


def names_of(template: Template) -> list[str]:
    assert template.files is not None
    return sorted(file.name for file in template.files.files)


def api_of(template: Template) -> dict[str, Any]:
    file = WORKFLOWS / "api" / f"{template.name}.json"
    graph: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return graph


@pytest.fixture(scope="module")
def opened(host: HeadlessComfyUI, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Any]:
    """{(template, whether Nodes 2.0 draws it): what open_templates.cjs saw}, where none of the files is."""
    shutil.copy(host.host.path / "input" / "example.png", host.input)
    folder = Path(os.environ.get("WAN_DUET_PICTURES", tmp_path_factory.mktemp("pictures")))
    keys = [(name, vue) for vue in (False, True) for name in NAMES]
    listing = {template.name for template in REAL}
    jobs = [
        {
            "workflow": str(WORKFLOWS / f"{name}.json"),
            "vue": vue,
            "lists": name in listing,
            "screenshot": str(folder / f"{'nodes2' if vue else 'classic'} {name}.png"),
        }
        for name, vue in keys
    ]
    return dict(zip(keys, in_browser("open_templates.cjs", host.url, json.dumps(jobs)), strict=True))


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes 2.0"])
@pytest.mark.parametrize("template", REAL, ids=lambda template: template.name)
def test_comfyui_lists_exactly_the_files_that_are_selected(
    opened: dict[tuple[str, bool], Any], template: Template, vue: bool
) -> None:
    seen = opened[template.name, vue]
    assert seen["listed"] == names_of(template)
    assert not seen["app"]


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes 2.0"])
@pytest.mark.parametrize("name", NAMES)
def test_no_node_is_unknown_or_lies_on_another(
    opened: dict[tuple[str, bool], Any], name: str, vue: bool
) -> None:
    seen = opened[name, vue]
    assert (seen["missing"], seen["overlaps"]) == ([], [])


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_the_browser_sends_what_the_twin_for_programs_says(
    opened: dict[tuple[str, bool], Any], template: Template
) -> None:
    sent, twin = opened[template.name, False]["prompt"], api_of(template)
    saver = id_of(twin, "SaveVideo")
    for graph in (sent, twin):  # how core's node calls its choices differs between its versions
        del graph[saver]["inputs"]
    assert sent == twin


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_one_template_opens_as_an_app(opened: dict[tuple[str, bool], Any]) -> None:
    assert opened[APP.name, False]["app"]


@pytest.fixture(scope="module")
def real(comfyui: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadlessComfyUI]:
    """A ComfyUI that has a tiny file for each published one."""
    models = tmp_path_factory.mktemp("models")
    write_real_names(models)
    paths = models / "paths.yaml"
    folders = {folder.name: str(folder) for folder in models.iterdir() if folder.is_dir()}
    paths.write_text(json.dumps({"tests": folders}), encoding="utf-8")  # JSON is YAML
    extra = ["--extra-model-paths-config", str(paths)]
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, extra_args=extra) as running:
        shutil.copy(comfyui.path / "input" / "example.png", running.input)
        yield running


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_the_app_runs_with_another_prompt_picture_and_seed_and_shows_the_video(
    real: HeadlessComfyUI, tmp_path: Path
) -> None:
    prompt, picture = "a green ball moving to the right on a white background", tmp_path / "green_ball.png"
    picture.write_bytes(image_bytes(np.full((64, 64, 3), (30, 160, 60), np.uint8), "png", {}))
    shots = [str(tmp_path / "before.png"), str(tmp_path / "after.png")]
    workflow = str(WORKFLOWS / f"{APP.name}.json")
    seen = in_browser("run_app.cjs", real.url, workflow, str(picture), prompt, "11", *shots)
    sent = {item["class_type"]: item["inputs"] for item in seen["sent"]}
    assert sent["LoadImage"]["image"] == picture.name
    assert (sent[APP.node]["prompt"], sent[APP.node]["seed"]) == (prompt, 11)
    assert "type=output" in seen["video"]


@pytest.mark.parametrize("template", RUNNING, ids=lambda template: template.name)
def test_the_same_graph_runs_on_tiny_files_of_the_same_names(
    real: HeadlessComfyUI, tmp_path: Path, template: Template
) -> None:
    graph = quick_api_of(template)
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    with ComfyClient(real.url) as client:
        job = client.run(graph)
        facts = video_of("SaveVideo", client, job, graph, tmp_path)
    written = json.loads(text_of(job, receipt))
    assert (facts.frames, facts.fps) == (written["plan"]["frames_out"], Fraction(written["plan"]["fps_out"]))
    answer = job.outputs[id_of(graph, "WanDuetCheck")]["text"][0]
    if template.files is None:
        assert f"can run (local on {template.model})" in answer
        return
    assert f"can run (local on {template.files.family})" in answer
    used = json.dumps(written["model"])
    assert [name for name in names_of(template) if name not in used] == []
