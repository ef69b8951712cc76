"""The shipped workflows: each one for the browser, with a picture, and the same graph for programs.

Those in saved/ were saved with the version that had text-to-video only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SAVED, SNAPSHOT = Path(__file__).with_name("saved"), Path(__file__).with_name("snapshot.json")
NAMES = sorted(file.stem for file in WORKFLOWS.glob("*.json"))
ONLY_IN_THE_BROWSER = {"MarkdownNote"}
# Save Video of ComfyUI 0.33 wants it beside `codec`; 0.25 ignores it, and its browser does not send it.
ALSO = {"SaveVideo": {"format.codec": "auto"}}


def test_every_workflow_has_a_picture_and_a_twin() -> None:
    assert {"Text to Video (one request)", "Text to Video (building blocks)"} < set(NAMES)
    assert sorted(file.stem for file in WORKFLOWS.glob("*.jpg")) == NAMES
    assert sorted(file.stem for file in (WORKFLOWS / "api").glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_describe_the_same_graph(name: str) -> None:
    assert without_titles(read(WORKFLOWS / f"{name}.json", as_api=True)) == without_titles(
        read(WORKFLOWS / "api" / f"{name}.json")
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_note_says_what_to_do_first(name: str) -> None:
    nodes = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))["nodes"]
    (note,) = (node for node in nodes if node["type"] == "MarkdownNote")
    assert note["title"] == "Start here"
    assert "**Run**" in note["widgets_values"][0]


@pytest.mark.parametrize("name", sorted(file.stem for file in SAVED.glob("*.json")))
def test_what_was_saved_is_the_beginning_of_what_there_is_now(name: str) -> None:
    """Values are saved in order, so anything but an addition at the end would move them to other inputs."""
    now = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    saved = json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))
    for node in saved["nodes"]:
        if node["type"] not in now:
            continue
        widgets = [item for item in now[node["type"]]["inputs"] if item[2] is not None]
        then = [item["name"] for item in node["inputs"] if "widget" in item]
        assert [item[0] for item in widgets[: len(then)]] == then
        assert all(item[3] == "optional" for item in widgets[len(then) :])


def read(file: Path, as_api: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return api_form(content) if as_api else content


def api_form(ui: dict[str, Any]) -> dict[str, Any]:
    """What the browser would send for a saved workflow: widget values have no names there, only an order."""
    links = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    graph = {}
    for node in ui["nodes"]:
        if node["type"] in ONLY_IN_THE_BROWSER:
            continue
        values = iter(node.get("widgets_values", ()))
        inputs: dict[str, Any] = {}
        for item in node["inputs"]:
            if "widget" in item:
                inputs[item["name"]] = next(values)
                if item["name"] in ("seed", "noise_seed"):
                    assert next(values) == "fixed"  # control after generate, for the browser only
            if item["link"] is not None:  # which wins over the widget of that name
                inputs[item["name"]] = links[item["link"]]
        assert list(values) == []
        inputs |= ALSO.get(node["type"], {})
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def without_titles(graph: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: node[key] for key in ("class_type", "inputs")} for name, node in graph.items()}
