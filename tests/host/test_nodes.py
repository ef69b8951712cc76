"""What ComfyUI knows of the nodes, and what it must know for ever."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from wan_duet.nodes.help_pages import DOCS, README, help_page, own_nodes, with_tables
from wan_duet.nodes.tasks import REQUEST_NODES, RequestNode
from wan_duet.nodes.widgets import fields_of, sockets_of, widgets
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

SNAPSHOT = Path(__file__).parents[1] / "nodes" / "snapshot.json"
SOCKETS = ("IMAGE", "VIDEO", "AUDIO")


@pytest.fixture
def nodes(client: ComfyClient) -> dict[str, Any]:
    return own_nodes(client.get("/object_info"))


def test_ids_input_order_types_and_defaults_never_change(nodes: dict[str, Any]) -> None:
    """Saved workflows know nodes by id and widgets by position. WAN_DUET_SNAPSHOT=write accepts additions."""
    now = {node: _interface(info) for node, info in nodes.items()}
    if os.environ.get("WAN_DUET_SNAPSHOT") == "write":
        SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    assert now == json.loads(SNAPSHOT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("node", REQUEST_NODES, ids=lambda node: node.task)
def test_request_widgets_reach_comfyui_as_the_table_says(nodes: dict[str, Any], node: RequestNode) -> None:
    inputs = nodes[node.node_id]["input"]
    optional = inputs.get("optional", {})
    shown = {name: item for name, item in (inputs["required"] | optional).items() if item[0] not in SOCKETS}
    assert list(shown) == [widget.name for widget in widgets(node.task, node.fields)]
    for widget in widgets(node.task, node.fields):
        kind, options = shown[widget.name]
        assert (kind, options["default"]) == (widget.type, widget.default)
        # ComfyUI's dynamic prompts are told where they act: in the tooltip of a text with them.
        dynamic = options.get("dynamicPrompts", False)
        assert options["tooltip"] == widget.tooltip or (
            dynamic and options["tooltip"].startswith(widget.tooltip)
        )
        assert (options.get("min"), options.get("max")) == (widget.min, widget.max)
        assert tuple(options.get("options", ())) == widget.options
        assert (widget.name in optional) == widget.optional


@pytest.mark.parametrize("node", REQUEST_NODES, ids=lambda node: node.task)
def test_every_medium_has_a_socket_of_its_type(nodes: dict[str, Any], node: RequestNode) -> None:
    inputs = nodes[node.node_id]["input"]
    sockets = {name: item[0] for name, item in inputs.get("optional", {}).items() if item[0] in SOCKETS}
    media = [row for row in fields_of(node.task).values() if row.media is not None]
    assert sockets == {socket: str(row.media).upper() for row in media for socket in sockets_of(row)}


def test_every_node_and_input_explains_itself(nodes: dict[str, Any]) -> None:
    for node, info in nodes.items():
        assert info["category"].startswith("Wan Duet/"), node
        assert info["description"], node
        assert info["search_aliases"], node
        assert all(info["output_tooltips"]), node
        for name, (_, options) in _inputs(info):
            assert options.get("tooltip"), f"{node}.{name}"


def test_only_the_check_and_what_saves_end_a_graph_and_none_is_paid(nodes: dict[str, Any]) -> None:
    saving = {"WanDuetSaveRendered", "WanDuetSaveEncoded", "WanDuetSaveInterpolated", "WanDuetKeepVideo"}
    ends = {"WanDuetCheck", "WanDuetLoraBench", *saving}
    assert {node for node, info in nodes.items() if info["output_node"]} == ends
    assert not [node for node, info in nodes.items() if info["api_node"] or info["price_badge"]]
    kept = {node for node, info in nodes.items() if info["has_intermediate_output"]}
    writing = {"WanDuetRunLocal", "WanDuetEncodeVideo", "WanDuetRenderVideo", "WanDuetInterpolate"}
    remote = {"WanDuetRunFal", "WanDuetRunNovita", "WanDuetRunFleet", "WanDuetJob"}
    told = {"WanDuetEncodePrompt", "WanDuetDecode", "WanDuetTwoStageSampler", "WanDuetStageSampler"}
    drawn = {"WanDuetLora", "WanDuetLoraBench", "WanDuetSigmas", "WanDuetContactSheet", "WanDuetShot"}
    assert kept == {*writing, *remote, *told, *drawn}


def test_help_pages_are_up_to_date(nodes: dict[str, Any]) -> None:
    written = {page.stem: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
    made = {node: help_page(node, info) for node, info in nodes.items()}
    assert written == made, "run: python -m wan_duet.nodes.help_pages URL_OF_A_COMFYUI_WITH_THIS_PACK"


def test_tables_of_the_readme_are_up_to_date(nodes: dict[str, Any]) -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme == with_tables(readme, nodes), "write them as the help pages"


def test_help_pages_are_where_the_help_panel_looks(host: HeadlessComfyUI, nodes: dict[str, Any]) -> None:
    for node, info in nodes.items():
        pack = info["python_module"].removeprefix("custom_nodes.")
        url = f"{host.url}/extensions/{pack}/docs/{node}.md"
        with urllib.request.urlopen(url) as answer:  # noqa: S310 (our own server)
            assert answer.read() == (DOCS / f"{node}.md").read_bytes()


def test_web_holds_the_help_pages_and_modules_and_nothing_else() -> None:
    """ComfyUI serves all of it, and loads every .js file."""
    assert {path.suffix or path.name for path in DOCS.parent.iterdir()} == {"docs", ".js"}


def _interface(info: dict[str, Any]) -> dict[str, Any]:
    """What saved workflows rely on."""
    order = info["input_order"]
    return {
        "inputs": [
            [
                name,
                kind,
                options.get("default"),
                "optional" if name in order.get("optional", ()) else "required",
            ]
            for name, (kind, options) in _inputs(info)
        ],
        "outputs": [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)],
    }


def _inputs(info: dict[str, Any]) -> list[tuple[str, Any]]:
    groups = (info["input"].get(group, {}) for group in ("required", "optional"))
    return [item for group in groups for item in group.items()]
