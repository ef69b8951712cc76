"""Downloads from a web on one loopback socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.fetch import DownloadLimits
from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.download.web import Web

from .small_web import PUBLIC, Loopback, Site, served


@pytest.fixture(scope="session")
def server() -> Iterator[Site]:
    with served() as made:
        yield made


@pytest.fixture
def site(server: Site) -> Site:
    """An empty web."""
    server.pages.clear()
    server.asked.clear()
    return server


@pytest.fixture
def loopback(site: Site) -> Loopback:
    return Loopback(site)


MakeDownloads = Callable[..., Downloads]


@pytest.fixture
def downloads(tmp_path: Path, loopback: Loopback) -> MakeDownloads:
    """Downloads from the test web, where every name is a public machine unless `names` says otherwise."""

    def make(
        folder: Path | None = None,
        *,
        tokens: Mapping[str, str] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        size_bytes: int = 2**24,
        free_bytes: int = 2**40,
    ) -> Downloads:
        transport = PublicTransport(
            loopback, lambda host, _: (names or {}).get(host, [PUBLIC]), any_port=True
        )
        limits = DownloadLimits(size_bytes, lambda _: free_bytes, margin_bytes=0)
        return Downloads(folder or tmp_path / "kept", Web(transport, tokens or {}), limits)

    return make


@pytest.fixture(scope="session")
def weights() -> bytes:
    """A small LoRA file."""
    parts = {f"blocks.0.attn1.to_q.lora_{side}.weight": torch.randn(64, 64) for side in "AB"}
    return save(parts)
