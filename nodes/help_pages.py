"""Writes the help page of each node, web/docs/<node id>.md, and the tables of README, from the nodes
themselves.

    python -m wan_duet.nodes.help_pages http://127.0.0.1:8188

needs a running ComfyUI with this pack. A host test fails when the pages are out of date.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pipelines.request import kinds_of
from ..pipelines.request.local_rules import LOCAL_RULES
from ..pipelines.request.local_settings_rules import SETTING_MEANINGS
from .tasks import REQUEST_NODES

__all__ = ["DOCS", "README", "help_page", "own_nodes", "with_tables"]

_ROOT = Path(__file__).resolve().parents[1]
DOCS, README = _ROOT / "web" / "docs", _ROOT / "README.md"
_PREFIX = "WanDuet"
# Choices that differ from machine to machine.
_FOUND_ON_DISK = {
    ("WanDuetLoadModel", "model"): "toy, toy-image, toy-speech, and every model found",
    ("WanDuetLoadModel", "low_model"): "none, and every model found",
    ("WanDuetLoadModel", "vae"): "auto, and every file found",
    ("WanDuetLoadModel", "text_encoder"): "auto, and every file found",
    ("WanDuetPromptExpander", "language_model"): "none, and every folder found",
    ("WanDuetSafetyChecker", "checker"): "none, and every folder found",
    ("WanDuetLoadModel", "image_encoder"): "auto, and every file found",
    ("WanDuetLoadModel", "audio_encoder"): "auto, and every file found",
    ("WanDuetLora", "file"): "none, the embedded ones, and every file found",
    ("WanDuetLora", "low_file"): "none, the embedded ones, and every file found",
    ("WanDuetRequestLora", "file"): "none, the embedded ones, and every file found",
    ("WanDuetRequestLora", "low_file"): "none, the embedded ones, and every file found",
}

_MEANINGS = ("", "## On this machine", "", "What Run Local does with each field:", "")

Info = Mapping[str, Any]  # of one node, as in ComfyUI's /object_info


def own_nodes(object_info: Mapping[str, Info]) -> dict[str, Info]:
    """Return the nodes of this pack."""
    return {name: info for name, info in object_info.items() if name.startswith(_PREFIX)}


def help_page(node: str, info: Info) -> str:
    """Return a page for the help panel of ComfyUI, in Markdown.

    The panel is narrow, and a table in it leaves its last columns outside: inputs and outputs are lists.
    """
    lines = [f"# {info['display_name']}", "", info["description"], "", "## Inputs", ""]
    for group in ("required", "optional"):
        for name, (kind, options) in info["input"].get(group, {}).items():
            lines.append(_input_line(node, name, kind, options, optional=group == "optional"))
    lines += ["", "## Outputs", ""]
    for name, kind, tooltip in zip(info["output_name"], info["output"], info["output_tooltips"], strict=True):
        lines.append(f"- **{name}** ({kind}): {tooltip}")
    return "\n".join([*lines, *_on_this_machine(node), ""])


def _input_line(node: str, name: str, kind: str, options: Mapping[str, Any], *, optional: bool) -> str:
    default = _default(options)
    facts = [kind, *(["optional"] if optional else []), *([f"default {default}"] if default else [])]
    return f"- **{name}** ({', '.join(facts)}): {options['tooltip']}{_choices(node, name, kind, options)}"


def with_tables(readme: str, nodes: Mapping[str, Info]) -> str:
    """Return README with new tables. Each is between <!-- NAME --> and <!-- /NAME -->."""
    for name, table in (("kinds", _kinds_table()), ("nodes", _nodes_table(nodes))):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = readme.split(begin)
        readme = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return readme


def _kinds_table() -> str:
    lines = ["| what | kind | node |", "| --- | --- | --- |"]
    for node in REQUEST_NODES:
        for cls in kinds_of(node.task):
            kind = f"[`{cls.kind}`](docs/requests.md#{cls.kind})"
            lines.append(f"| {cls.title} | {kind} | {node.display_name} |")
    return "\n".join([*lines, ""])


def _nodes_table(nodes: Mapping[str, Info]) -> str:
    requests = {node.node_id for node in REQUEST_NODES}
    lines = ["| node | what it does |", "| --- | --- |"]
    lines += [
        f"| {info['display_name']} | {info['description']} |"
        for node, info in nodes.items()
        if node not in requests
    ]
    return "\n".join([*lines, ""])


def _on_this_machine(node: str) -> list[str]:
    """Return what the fields of a request node mean to Run Local, in Markdown."""
    if node == "WanDuetRequestLocal":
        return [*_MEANINGS, *(f"- **{name}**: {meaning}" for name, meaning in SETTING_MEANINGS.items())]
    request = next((request for request in REQUEST_NODES if request.node_id == node), None)
    if request is None or any(cls.remote_only for cls in kinds_of(request.task)):
        return []
    return [*_MEANINGS, *(f"- **{field}**: {LOCAL_RULES[field].meaning}" for field in request.fields)]


def _default(options: Mapping[str, Any]) -> str:
    default = options.get("default", "")
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)


def _choices(node: str, name: str, kind: str, options: Mapping[str, Any]) -> str:
    if (node, name) in _FOUND_ON_DISK:
        return f" Choices: {_FOUND_ON_DISK[node, name]}."
    if "options" in options:
        return f" Choices: {', '.join(map(str, options['options']))}."
    if "min" not in options:
        return ""
    text = f"{options['min']} to {options['max']}" if "max" in options else f"{options['min']} or more"
    steps = f" in steps of {options['step']}" if kind == "INT" and "step" in options else ""
    return f" Range: {text}{steps}."


def _write(url: str) -> None:
    with urllib.request.urlopen(f"{url.rstrip('/')}/object_info") as answer:  # noqa: S310 (given by the user)
        nodes = own_nodes(json.load(answer))
    DOCS.mkdir(parents=True, exist_ok=True)
    for page in DOCS.glob("*.md"):
        page.unlink()
    for node, info in nodes.items():
        (DOCS / f"{node}.md").write_text(help_page(node, info), encoding="utf-8")
    README.write_text(with_tables(README.read_text(encoding="utf-8"), nodes), encoding="utf-8")


if __name__ == "__main__":
    _write(sys.argv[1])
