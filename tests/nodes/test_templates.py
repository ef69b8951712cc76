"""Workflows for real weights name their files as ComfyUI's dialog needs them, and apps name what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.template_list import TEMPLATES, Template
from tools.templates import template_pages
from wan_duet.pipelines.model_files.catalogue import read_catalogue

WORKFLOWS = Path(__file__).parents[2] / "workflows"
REAL = [template for template in TEMPLATES if template.size is not None]
LOADERS = {"WanDuetLoadModel", "WanDuetLora", "UNETLoader", "CLIPLoader", "VAELoader"}


def graph_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def widgets_of(node: dict[str, Any]) -> dict[str, Any]:
    """{widget: value}; a seed has a second value, which the browser alone knows."""
    names = [name for item in node["inputs"] if "widget" in item for name in _values(item["widget"]["name"])]
    return dict(zip(names, node["widgets_values"], strict=True))


def _values(name: str) -> list[str]:
    return [name, "control after generate"] if name == "seed" else [name]


def test_what_is_shipped_is_what_the_list_says() -> None:
    for file, render in template_pages().items():
        assert file.read_text(encoding="utf-8") == render(), f"python -m tools.generated renews {file.name}"


@pytest.mark.parametrize("template", REAL, ids=lambda template: template.name)
def test_each_loader_embeds_exactly_the_files_that_it_selects(template: Template) -> None:
    published, loaders = read_catalogue().files, 0
    for node in graph_of(template.name)["nodes"]:
        if node["type"] not in LOADERS:
            assert "models" not in node["properties"]
            continue
        selected = {value for value in widgets_of(node).values() if value in published}
        loaders += len(selected)
        assert {model["name"] for model in node["properties"]["models"]} == selected
        for model in node["properties"]["models"]:
            file = published[model["name"]]
            assert (model["url"], model["directory"]) == (file.url, file.folder)
            assert (model["hash"], model["hash_type"]) == (file.sha256, "SHA256")
        if node["type"] == "WanDuetLoadModel":
            assert "auto" not in {widgets_of(node)["vae"], widgets_of(node)["text_encoder"]}
    assert template.files is not None
    assert loaders == len(template.files.files)


@pytest.mark.parametrize("name", sorted(file.stem for file in WORKFLOWS.glob("*.json")))
def test_an_app_asks_for_widgets_and_shows_output_nodes_that_are_there(name: str) -> None:
    graph = graph_of(name)
    app = graph["extra"].get("linearData")
    if app is None:
        assert "linearMode" not in graph["extra"]
        return
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert app["inputs"]
    for node, widget in app["inputs"]:
        assert widget in widgets_of(nodes[node])
    assert [nodes[node]["type"] for node in app["outputs"]] in (["SaveVideo"], ["SaveImage"], ["PreviewAny"])


def test_one_workflow_opens_as_an_app_and_asks_for_prompt_image_and_seed() -> None:
    (name,) = (template.name for template in TEMPLATES if template.app)
    extra = graph_of(name)["extra"]
    assert extra["linearMode"] is True
    assert [widget for _, widget in extra["linearData"]["inputs"]] == ["prompt", "image", "seed"]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_no_node_lies_on_another(template: Template) -> None:
    boxes = [(*node["pos"], *node["size"]) for node in graph_of(template.name)["nodes"]]
    for number, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[number + 1 :]:
            assert x + width <= left or left + wide <= x or y + height + 30 <= top or top + high + 30 <= y
