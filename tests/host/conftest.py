"""Tests in this folder talk to a real ComfyUI, started once for all of them.

It is the one in $COMFYUI_PATH (else ~/ComfyUI), run by $COMFYUI_PYTHON (else its venv). Without one they are
skipped.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_companions as companions
from finding_kinds import write_model

from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.model_files.catalogue import read_catalogue

# Minutes each, in a browser; the last lines of a run say so.
if "WAN_DUET_LONG" not in os.environ:
    collect_ignore = ["test_face.py", "test_get_files.py", "test_real_weights.py"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders of our own, listed beside the host's: a tiny Wan 2.2 A14B of single files."""
    folder = tmp_path_factory.mktemp("models")
    for file in read_catalogue().files.values():  # ComfyUI asks at its start which there are
        (folder / file.folder).mkdir(exist_ok=True)
    write_model(folder)
    (folder / "diffusion_models" / "wan.gguf").touch()
    companions.language_model(folder / "LLM" / "talker")
    for name, flags in (("looker", False), ("refuser", True)):
        companions.image_classifier(folder / "safety_checkers" / name, flags=flags)
    return folder


@pytest.fixture(scope="session")
def host(comfyui: Host, models: Path) -> Iterator[HeadlessComfyUI]:
    """A running ComfyUI with this pack in it, shared by all tests."""
    paths = models / "paths.yaml"
    # JSON is YAML.
    folders = {folder.name: str(folder) for folder in models.iterdir() if folder.is_dir()}
    paths.write_text(json.dumps({"tests": folders}, ensure_ascii=False), encoding="utf-8")
    extra = ["--extra-model-paths-config", str(paths)]
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, extra_args=extra, start_timeout_s=900) as running:
        shutil.copy(comfyui.path / "input" / "example.png", running.input)  # as in every ComfyUI
        yield running


@pytest.fixture
def client(host: HeadlessComfyUI) -> Iterator[ComfyClient]:
    """A client of the shared ComfyUI that nobody else listens with."""
    with ComfyClient(host.url) as made:
        yield made


@pytest.fixture(scope="session")
def defaults(host: HeadlessComfyUI) -> dict[str, dict[str, Any]]:
    """{node of this pack: {required input: its default}}"""
    nodes = {node: info["input"]["required"] for node, info in host.client.get("/object_info").items()}
    return {
        node: {name: item[1]["default"] for name, item in inputs.items() if "default" in item[-1]}
        for node, inputs in nodes.items()
        if node.startswith("WanDuet")
    }
