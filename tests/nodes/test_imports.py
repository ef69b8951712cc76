"""What importing the nodes may load. In a real ComfyUI, tests/host/core/test_process.py looks too."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import wan_duet.nodes

FOLDER = Path(wan_duet.nodes.__file__).parent
MODULES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.py"))}
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


def test_nothing_heavy_is_imported_with_a_module() -> None:
    """Only inside `execute`: statements of the module itself, not those for type checkers."""
    imported = {
        (file.stem, node.module if isinstance(node, ast.ImportFrom) else alias.name)
        for file, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not [(file, name) for file, name in imported if name and name.startswith(HEAVY)]


def test_one_module_imports_the_node_interface_of_comfyui() -> None:
    imported = {
        (file.stem, name)
        for file, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    importing = {file for file, name in imported if name.startswith(("comfy_api", "comfy_execution"))}
    assert importing == {"comfy_interface"}
