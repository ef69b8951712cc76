"""What importing the nodes may load. In a real ComfyUI, tests/host/core/test_process.py looks too."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import wan_duet.nodes

FOLDER = Path(wan_duet.nodes.__file__).parent
HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "av",
    "pipelines.download.downloads",
    "pipelines.generate",
    "pipelines.loading",
    "pipelines.model_files.get_files",
    "pipelines.networks",
    "pipelines.streaming",
    "pipelines.vae",
)


def test_what_needs_no_comfyui_needs_no_torch() -> None:
    names = ("conditioning", "help_pages", "latents", "listing", "lora_choice", "media", "tasks", "widgets")
    imports = ", ".join(f"wan_duet.nodes.{name}" for name in names)
    code = f"import {imports}, json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "diffusers", "transformers", "av"} & set(json.loads(done.stdout))


def test_what_nodes_know_of_downloads_needs_no_http_library() -> None:
    """httpx brings its command line along: a quarter of the time that the pack takes to start."""
    names = "weights.lora.find", "model_files.inventory", "model_files.background", "request.check"
    imports = ", ".join(f"wan_duet.pipelines.{name}" for name in names)
    code = f"import {imports}, json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "httpx" not in json.loads(done.stdout)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_nothing_heavy_is_imported_with_the_module(file: Path) -> None:
    """Only inside `execute`: statements of the module itself, not those for type checkers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not [name for name in imported if name and name.startswith(HEAVY)]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_one_module_imports_the_node_interface_of_comfyui(file: Path) -> None:
    if file.stem == "comfy_interface":
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in (*modules, *names) if name.startswith(("comfy_api", "comfy_execution"))]
