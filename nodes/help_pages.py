"""The help page of each node, web/docs/<node id>.md, written from what the node says about itself.

    python -m wan_duet.nodes.help_pages http://127.0.0.1:8188

asks a running ComfyUI with this pack and writes all pages. A host test fails when they are out of date.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DOCS", "help_page", "own_nodes"]

DOCS = Path(__file__).resolve().parents[1] / "web" / "docs"
_PREFIX = "WanDuet"
# Choices that differ from machine to machine.
_FOUND_ON_DISK = {
    ("WanDuetLoadModel", "model"): "toy, and every model found",
    ("WanDuetRequestLora", "file"): "none, and every file found",
}

Info = Mapping[str, Any]  # of one node, as in ComfyUI's /object_info


def own_nodes(object_info: Mapping[str, Info]) -> dict[str, Info]:
    """The nodes of this pack among all that a ComfyUI has."""
    return {name: info for name, info in object_info.items() if name.startswith(_PREFIX)}


def help_page(node: str, info: Info) -> str:
    """Markdown for ComfyUI's help panel."""
    lines = [f"# {info['display_name']}", "", info["description"], "", "## Inputs", ""]
    lines += ["| input | type | default | choices | what it is |", "| --- | --- | --- | --- | --- |"]
    for group in ("required", "optional"):
        for name, (kind, options) in info["input"].get(group, {}).items():
            shown = f"{name} (optional)" if group == "optional" else name
            cells = (shown, kind, _default(options), _choices(node, name, options), options["tooltip"])
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Outputs", "", "| output | type | what it is |", "| --- | --- | --- |"]
    for row in zip(info["output_name"], info["output"], info["output_tooltips"], strict=True):
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, ""])


def _default(options: Mapping[str, Any]) -> str:
    default = options.get("default", "")
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def _choices(node: str, name: str, options: Mapping[str, Any]) -> str:
    if (node, name) in _FOUND_ON_DISK:
        return _FOUND_ON_DISK[node, name]
    if "options" in options:
        return ", ".join(options["options"])
    return f"{options['min']} to {options['max']}" if "min" in options else ""


def _write(url: str) -> None:
    with urllib.request.urlopen(f"{url.rstrip('/')}/object_info") as answer:  # noqa: S310 (given by the user)
        nodes = own_nodes(json.load(answer))
    DOCS.mkdir(parents=True, exist_ok=True)
    for page in DOCS.glob("*.md"):
        page.unlink()
    for node, info in nodes.items():
        (DOCS / f"{node}.md").write_text(help_page(node, info), encoding="utf-8")


if __name__ == "__main__":
    _write(sys.argv[1])
