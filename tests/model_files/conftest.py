"""Tiny files with the names, folders and addresses of published ones, on one loopback socket."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.model_files.catalogue import ModelFile
from wan_duet.pipelines.model_files.inventory import Folders, comfyui_folders

from ..download import conftest as downloads
from ..download.small_web import PUBLIC, Loopback, Site

HOST = "huggingface.co"
server, site = downloads.server, downloads.site


@pytest.fixture
def web(site: Site) -> Web:
    """Every name of the internet is the test server; nothing else about the transport is changed."""
    return Web(PublicTransport(Loopback(site), lambda *_: [PUBLIC], any_port=True))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "models").mkdir()
    return comfyui_folders(tmp_path / "models")


@pytest.fixture(scope="session")
def weights() -> bytes:
    """A small safetensors file of about 200 KB."""
    generator = torch.Generator().manual_seed(7)
    return save({"blocks.0.weight": torch.randn(200, 256, generator=generator)})


def published(
    content: bytes, name: str = "vae.safetensors", folder: str = "vae", **other: object
) -> ModelFile:
    """The entry of a file with this content."""
    facts: dict[str, object] = {
        "name": name,
        "folder": folder,
        "url": f"https://{HOST}/someone/models/resolve/main/{name}",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return ModelFile(**{**facts, **other})  # type: ignore[arg-type]


def path_of(file: ModelFile) -> str:
    return file.url.removeprefix(f"https://{HOST}")
