"""A proxy that the user has set: it is gone through, it sees no key, and what it refuses was not sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import NotAcceptedError, RequestError, UnreachableError
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.keys import Key
from wan_duet.pipelines.remote.provider import RemoteFile
from wan_duet.pipelines.remote.settings import Addresses, read_addresses

from ..servers.fal import FalServer
from .clients import FAL_KEY, QUICK, Waits, fal_at


def read(folder: Path, content: dict[str, Any]) -> Addresses:
    (folder / "providers.json").write_text(json.dumps(content))
    return read_addresses(folder)


def through_a_proxy(folder: Path, use: Callable[[Fal], Awaitable[Any]], answer: bytes) -> list[bytes]:
    """What a proxy saw that answers everything alike."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        addresses = read(folder, {"proxy": f"http://me:proxy-password@127.0.0.1:{port}"})
        assert "proxy-password" not in repr(addresses)
        fal = Fal(Key("fal", FAL_KEY), addresses, timing=Waits().timing(), timeouts=QUICK)
        try:
            await use(fal)
        finally:
            await fal.close()
            server.close()

    asyncio.run(run())
    return seen


@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"407 Proxy Authentication Required"])
def test_what_a_proxy_refuses_was_surely_not_sent(tmp_path: Path, status: bytes) -> None:
    async def use(fal: Fal) -> None:
        with pytest.raises(NotAcceptedError) as caught:
            await fal.submit("fal-ai/wan/v2.2-a14b/text-to-video", {"prompt": "a"}, job_id="job-1")
        assert "proxy-password" not in str(caught.value)

    seen = through_a_proxy(tmp_path, use, b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    assert len(seen) == 4
    assert all(request.startswith(b"CONNECT queue.fal.run:443 ") for request in seen)
    assert FAL_KEY.encode() not in b"".join(seen)


def test_a_result_comes_through_the_proxy_too(tmp_path: Path) -> None:
    async def use(fal: Fal) -> None:
        file = RemoteFile("https://v3.fal.media/files/a.mp4")
        with pytest.raises(UnreachableError):
            await fal.download(file, tmp_path / "a.mp4", progress=lambda *_: None, check=lambda: None)

    seen = through_a_proxy(tmp_path, use, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    assert all(request.startswith(b"CONNECT v3.fal.media:443 ") for request in seen)


@pytest.mark.parametrize(
    "content",
    [
        {"proxy": "socks5://127.0.0.1:1080"},
        {"proxy": "host:3128"},
        {"proxy": ""},
        {"proxy": 3128},
        {"proxy": "http://me:proxy-password@[::1", "allow_loopback": False},
        {"proxy": "http://me:proxy-password@127.0.0.1:3128", "allow_loopback": True},
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="proxy") as caught:
        read(tmp_path, content)
    assert "proxy-password" not in str(caught.value)


def test_the_environment_sets_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def run() -> None:
        async with FalServer() as server, fal_at(server) as fal:
            await fal.submit("fal-ai/wan/v2.2-a14b/text-to-video", {"prompt": "a"}, job_id="job-1")
            assert len(server.jobs) == 1

    asyncio.run(run())


def test_this_machine_is_not_asked_through_a_proxy(tmp_path: Path) -> None:
    addresses = read(tmp_path, {"proxy": "http://127.0.0.1:3128"})
    with pytest.raises(RequestError, match="proxy"):
        addresses.at("fal", "http://127.0.0.1:8900", allow_loopback=True)
