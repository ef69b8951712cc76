"""Workflows are opened in both canvases: those for real weights list what is missing, and one is an app."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.template_list import TEMPLATES, Template
from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.image import image_bytes

from .test_browser import LACKING, SKIPPED, in_browser
from .test_workflows import id_of

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = sorted(file.stem for file in WORKFLOWS.glob("*.json"))
REAL = [template for template in TEMPLATES if template.size is not None]
(APP,) = (template for template in TEMPLATES if template.app)


def names_of(template: Template) -> list[str]:
    assert template.files is not None
    return sorted(file.name for file in template.files.files)


def api_of(template: Template) -> dict[str, Any]:
    file = WORKFLOWS / "api" / f"{template.name}.json"
    graph: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return graph


@pytest.fixture(scope="module")
def bare(comfyui: Host) -> Iterator[HeadlessComfyUI]:
    """A ComfyUI that has none of the files."""
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, start_timeout_s=900) as running:
        shutil.copy(comfyui.path / "input" / "example.png", running.input)
        yield running


@pytest.fixture(scope="module", params=["classic", "nodes2"])
def opened(
    request: pytest.FixtureRequest, bare: HeadlessComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """{workflow: what open_templates.cjs saw in a canvas}"""
    folder = Path(os.environ.get("WAN_DUET_PICTURES", tmp_path_factory.mktemp("pictures")))
    listing = {template.name for template in REAL}
    jobs = [
        {
            "workflow": str(WORKFLOWS / f"{name}.json"),
            "vue": request.param == "nodes2",
            "lists": name in listing,
            "screenshot": str(folder / f"{request.param} {name}.png"),
        }
        for name in NAMES
    ]
    return dict(zip(NAMES, in_browser("open_templates.cjs", bare.url, json.dumps(jobs)), strict=True))


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("template", REAL, ids=lambda template: template.name)
def test_comfyui_lists_exactly_the_files_that_are_selected(
    opened: dict[str, Any], template: Template
) -> None:
    seen = opened[template.name]
    assert seen["listed"] == names_of(template)
    assert not seen["app"]


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("name", NAMES)
def test_no_node_is_unknown_or_lies_on_another(opened: dict[str, Any], name: str) -> None:
    seen = opened[name]
    assert (seen["missing"], seen["overlaps"]) == ([], [])


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_the_browser_sends_what_the_twin_for_programs_says(
    opened: dict[str, Any], template: Template
) -> None:
    sent, twin = opened[template.name]["prompt"], api_of(template)
    saver = id_of(twin, "SaveVideo")
    for graph in (sent, twin):  # how core's node calls its choices differs between its versions
        del graph[saver]["inputs"]
    assert sent == twin


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_one_template_opens_as_an_app(opened: dict[str, Any]) -> None:
    assert opened[APP.name]["app"]


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_the_app_runs_with_another_prompt_picture_and_seed_and_shows_the_video(
    host: HeadlessComfyUI, tmp_path: Path
) -> None:
    prompt, picture = "a green ball moving up on a white background", tmp_path / "green_ball.png"
    picture.write_bytes(image_bytes(np.full((64, 64, 3), (30, 160, 60), np.uint8), "png", {}))
    shots = [str(tmp_path / "before.png"), str(tmp_path / "after.png")]
    workflow = str(WORKFLOWS / f"{APP.name}.json")
    seen = in_browser("run_app.cjs", host.url, workflow, str(picture), prompt, "11", *shots)
    sent = {item["class_type"]: item["inputs"] for item in seen["sent"]}
    assert sent["LoadImage"]["image"] == picture.name
    assert (sent[APP.node]["prompt"], sent[APP.node]["seed"]) == (prompt, 11)
    assert "type=output" in seen["video"]
