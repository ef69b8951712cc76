"""Providers on this machine, and a user who has keys for them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer

KEY = "5f0c1d2e-aaaa-4bbb-8ccc-123456789abc:c0ffee00112233445566778899aabbcc"


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that servers run on, beside the test."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def server(loop: asyncio.AbstractEventLoop) -> Iterator[FalServer]:
    made = FalServer(key=KEY, queue_looks=0, run_looks=0)
    asyncio.run_coroutine_threadsafe(made.start(), loop).result()
    yield made
    asyncio.run_coroutine_threadsafe(made.stop(), loop).result()


@pytest.fixture
def novita(loop: asyncio.AbstractEventLoop) -> Iterator[NovitaServer]:
    made = NovitaServer(queue_looks=0, run_looks=0)
    asyncio.run_coroutine_threadsafe(made.start(), loop).result()
    yield made
    asyncio.run_coroutine_threadsafe(made.stop(), loop).result()


@pytest.fixture
def folder(tmp_path: Path, server: FalServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys and addresses of the user, in a ComfyUI that shares them."""
    made = tmp_path / "ComfyUI" / "user" / "__wan_duet"
    made.mkdir(parents=True)
    (made / "keys.json").write_text(json.dumps({"fal": KEY}))
    (made / "keys.json").chmod(0o600)
    (made / "providers.json").write_text(json.dumps({"fal": server.url, "allow_loopback": True}))
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "ComfyUI"))
    for name in ("FAL_KEY", "FAL_KEY_ID", "NOVITA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return made


def jobs(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["jobs", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
