"""Uploads: each content once, in parts where it is large, and no key where the bytes go."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RefusedError, RequestError, UnreachableError
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.fal_storage import UploadSizes
from wan_duet.pipelines.remote.payload import prepare, sendable
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.video.local_file import file_at

from ..servers.fal import FalServer
from .clients import FAL_KEY, fal_at

SIZES = UploadSizes(whole=50_000, part=20_000)
SMALL, LARGE = bytes(range(256)) * 40, bytes(range(256)) * 500


def with_fal(use: Callable[[Fal, FalServer], Awaitable[Any]], folder: Path | None = None) -> Any:
    async def run() -> Any:
        async with FalServer(key=FAL_KEY) as server, fal_at(server, folder, sizes=SIZES) as fal:
            try:
                return await use(fal, server)
            finally:
                assert server.cdn.leaks == []

    return asyncio.run(run())


def stored(server: FalServer, address: str) -> bytes:
    return server.cdn.files[address.rpartition("/")[2]].data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["whole", "parts"])
def test_a_file_arrives_as_it_is(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a cat & a dog?.mp4"
    file.write_bytes(data)

    async def use(fal: Fal, server: FalServer) -> None:
        address = await fal.upload(file_at(file, "video_url"))
        assert stored(server, address) == data
        assert address.endswith("_a-cat-a-dog-.mp4")
        assert server.script.calls["part"] == (0 if data == SMALL else 7)

    with_fal(use)


@pytest.mark.parametrize("name", ["drop", "reset", "stall", "408", "429 wait", "500", "503 page"])
@pytest.mark.parametrize(
    ("route", "data"), [("initiate", SMALL), ("upload", SMALL), ("part", LARGE), ("complete", LARGE)]
)
def test_an_upload_outlasts_a_fault(tmp_path: Path, route: str, data: bytes, name: str) -> None:
    (tmp_path / "a.mp4").write_bytes(data)

    async def use(fal: Fal, server: FalServer) -> None:
        server.script.plan(route, name)
        assert stored(server, await fal.upload(file_at(tmp_path / "a.mp4", "video_url"))) == data

    with_fal(use)


@pytest.mark.parametrize(("route", "error"), [("initiate", RefusedError), ("upload", RefusedError)])
def test_a_refused_upload_is_not_repeated_and_costs_nothing(
    tmp_path: Path, route: str, error: type[RefusedError]
) -> None:
    (tmp_path / "a.mp4").write_bytes(SMALL)

    async def use(fal: Fal, server: FalServer) -> None:
        server.script.plan(route, "403", times=100)
        with pytest.raises(error) as caught:
            await fal.upload(file_at(tmp_path / "a.mp4", "video_url"))
        assert caught.value.money == "none spent"
        assert server.script.calls[route] == 1

    with_fal(use)


def test_one_broken_part_ends_the_upload(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(LARGE)

    async def use(fal: Fal, server: FalServer) -> None:
        server.script.plan("part", "503 page", times=1000)
        with pytest.raises(UnreachableError):
            await fal.upload(file_at(tmp_path / "a.mp4", "video_url"))
        assert server.script.calls["complete"] == 0

    with_fal(use)


def test_the_same_content_is_uploaded_once_also_after_a_restart(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(SMALL)
    (tmp_path / "b.mp4").write_bytes(SMALL)

    async def run() -> None:
        async with FalServer() as server:
            addresses = []
            for name in ("a.mp4", "b.mp4"):
                async with fal_at(server, tmp_path / "keys") as fal:
                    addresses.append(await fal.upload(file_at(tmp_path / name, "video_url")))
            assert len(set(addresses)) == 1
            assert server.script.calls["upload"] == 1
            mode = (tmp_path / "keys" / "uploads.json").stat().st_mode
            assert stat.S_IMODE(mode) == 0o600

    asyncio.run(run())


def test_an_upload_that_has_expired_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(SMALL)

    async def use(fal: Fal, server: FalServer) -> None:
        file = file_at(tmp_path / "a.mp4", "video_url")
        first = await fal.upload(file)
        server.cdn.files.clear()
        second = await fal.upload(file)
        assert first != second
        assert stored(server, second) == SMALL

    with_fal(use, tmp_path / "keys")


def test_a_file_that_changes_while_it_is_uploaded_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(SMALL)

    async def use(fal: Fal, server: FalServer) -> None:
        hashed = file_at(file, "video_url")
        file.write_bytes(SMALL + b"more")
        with pytest.raises(RefusedError, match="changed"):
            await fal.upload(hashed)
        file.unlink()
        with pytest.raises(RequestError, match="cannot be read any more"):
            await fal.upload(hashed)

    with_fal(use)


def test_only_the_latest_uploads_are_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(SMALL)
    memory = tmp_path / "keys" / "uploads.json"
    memory.parent.mkdir()
    memory.write_text(json.dumps({str(number): "https://a/b" for number in range(300)}))

    async def use(fal: Fal, server: FalServer) -> None:
        await fal.upload(file_at(tmp_path / "a.mp4", "video_url"))

    with_fal(use, tmp_path / "keys")
    kept = json.loads(memory.read_text())
    assert len(kept) == 200
    assert "0" not in kept
    assert "299" in kept


def test_another_account_uploads_for_itself(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(SMALL)

    async def run() -> None:
        async with FalServer() as server:
            for key in (FAL_KEY, "another:" + "0" * 32):
                async with fal_at(server, tmp_path / "keys", key=key) as fal:
                    await fal.upload(file_at(tmp_path / "a.mp4", "video_url"))
            assert server.script.calls["upload"] == 2

    asyncio.run(run())


def test_a_request_with_a_file_becomes_a_job(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + SMALL)
    (tmp_path / "style.safetensors").write_bytes(SMALL)

    async def use(fal: Fal, server: FalServer) -> None:
        values = {
            "prompt": "a red ball",
            "image_url": str(tmp_path / "a.png"),
            "loras": [{"path": str(tmp_path / "style.safetensors")}],
        }
        prepared = prepare(parse("image-to-video-lora", values))
        payload = await sendable(prepared, fal.upload)
        job = await fal.submit(prepared.endpoint, payload, job_id="job-1")
        assert stored(server, server.jobs[job.request_id].body["loras"][0]["path"]) == SMALL

    with_fal(use)
