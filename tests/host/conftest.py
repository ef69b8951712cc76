"""Tests in this folder talk to a real ComfyUI, started once for all of them.

It is the one in $COMFYUI_PATH (else ~/ComfyUI), run by $COMFYUI_PYTHON (else its venv). Without one they are
skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.terminal import stopped_by_sigterm


@pytest.fixture(scope="session")
def host(comfyui: Host) -> Iterator[HeadlessComfyUI]:
    """A running ComfyUI with this pack in it, shared by all tests."""
    with stopped_by_sigterm(), HeadlessComfyUI(comfyui) as running:
        yield running


@pytest.fixture
def client(host: HeadlessComfyUI) -> Iterator[ComfyClient]:
    """A client of the shared ComfyUI that nobody else listens with."""
    with ComfyClient(host.url) as made:
        yield made
