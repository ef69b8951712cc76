"""Tests in this folder talk to a real ComfyUI, started once for all of them.

It is the one in $COMFYUI_PATH (else ~/ComfyUI), run by $COMFYUI_PYTHON (else its venv). Without one they are
skipped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.terminal import stopped_by_sigterm
from wan_duet.pipelines.toy.embedded import toy_folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders of our own, which ComfyUI lists beside the host's."""
    folder = tmp_path_factory.mktemp("models")
    toy = toy_folder()
    for name, source in (
        ("diffusion_models/wan_high_noise.safetensors", toy / "transformer"),
        ("diffusion_models/wan_low_noise.safetensors", toy / "transformer_2"),
        ("vae/small_vae.safetensors", toy / "vae"),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(source / "diffusion_pytorch_model.safetensors", folder / name)
    (folder / "text_encoders").mkdir()
    shutil.copy(toy / "text_encoder" / "model.safetensors", folder / "text_encoders" / "umt5.safetensors")
    (folder / "diffusion_models" / "wan.gguf").touch()
    (folder / "loras").mkdir()
    return folder


@pytest.fixture(scope="session")
def host(comfyui: Host, models: Path) -> Iterator[HeadlessComfyUI]:
    """A running ComfyUI with this pack in it, shared by all tests."""
    paths = models / "paths.yaml"
    # JSON is YAML.
    folders = {folder.name: str(folder) for folder in models.iterdir() if folder.is_dir()}
    paths.write_text(json.dumps({"tests": folders}, ensure_ascii=False), encoding="utf-8")
    extra = ["--extra-model-paths-config", str(paths)]
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui, extra_args=extra) as running:
        yield running


@pytest.fixture
def client(host: HeadlessComfyUI) -> Iterator[ComfyClient]:
    """A client of the shared ComfyUI that nobody else listens with."""
    with ComfyClient(host.url) as made:
        yield made
