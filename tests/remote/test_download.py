"""Downloads of results: whole or not at all, continued where they broke off, from public machines only."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from wan_duet.pipelines.errors import DownloadError, JobLostError, RemoteError, UnreachableError
from wan_duet.pipelines.remote.download import Caps, Cdn
from wan_duet.pipelines.remote.provider import RemoteFile

from ..servers.cdn import Stored
from ..servers.fal import FalServer
from .clients import FILM, QUICK, Waits


def with_cdn(
    use: Callable[[Cdn, FalServer, RemoteFile], Awaitable[Any]],
    data: bytes = FILM,
    content_type: str = "video/mp4",
    caps: Caps | None = None,
) -> Any:
    """The value of `use`, with a file that lies on the server."""

    async def run() -> Any:
        async with FalServer() as server:
            server.cdn.files["a.mp4"] = Stored(data, content_type)
            cdn = Cdn.for_results(
                "fal", allow_loopback=True, timing=Waits().timing(), timeouts=QUICK, caps=caps or Caps()
            )
            file = RemoteFile(f"{server.url}/cdn/files/a.mp4", content_type, len(data))
            try:
                return await use(cdn, server, file)
            finally:
                await cdn.close()

    return asyncio.run(run())


async def fetched(cdn: Cdn, file: RemoteFile, to: Path) -> bytes:
    done = await cdn.download(file, to, progress=lambda *_: None, check=lambda: None)
    assert done.sha256 == hashlib.sha256(to.read_bytes()).hexdigest()
    assert os.listdir(to.parent) == [to.name]  # no part, no note
    return to.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "drop",
        "reset",
        "stall",
        "cut body",
        "408",
        "425",
        "429 wait",
        "500",
        "502 page",
        "503 page",
        "504 page",
        "damaged",
    ],
)
def test_a_download_outlasts_a_fault(tmp_path: Path, name: str) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", name, times=3)
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM
        assert server.script.calls["download"] == 4

    with_cdn(use)


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", "cut body", times=2)
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM
        half = len(FILM) // 2
        assert server.cdn.ranges == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]

    with_cdn(use)


def test_the_next_process_goes_on_with_the_part(tmp_path: Path) -> None:
    part, half = tmp_path / "a.mp4.part", len(FILM) // 2

    def stop() -> None:
        if part.exists() and part.stat().st_size >= half:
            raise KeyboardInterrupt  # a host's own exception need not be an Exception

    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", "cut body")
        with pytest.raises(KeyboardInterrupt):
            await cdn.download(file, tmp_path / "a.mp4", progress=lambda *_: None, check=stop)
        assert os.listdir(tmp_path) != ["a.mp4"]
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM
        assert server.cdn.ranges == [None, f"bytes={half}-"]

    with_cdn(use)


def test_another_version_of_the_file_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        (tmp_path / "a.mp4.part").write_bytes(b"old" * 100)
        (tmp_path / "a.mp4.part.json").write_text('{"etag": "\\"of another version\\""}')
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM

    with_cdn(use)


def test_a_part_without_a_version_is_not_trusted(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        (tmp_path / "a.mp4.part").write_bytes(b"old" * 100)
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM
        assert server.cdn.ranges == [None]

    with_cdn(use)


@pytest.mark.parametrize("etag", ['"\xff"', '"\u2603"', "unquoted", '"a\nb"', ""])
def test_a_version_that_no_header_can_carry_is_not_gone_on_with(tmp_path: Path, etag: str) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        (tmp_path / "a.mp4.part").write_bytes(b"old" * 100)
        (tmp_path / "a.mp4.part.json").write_text(json.dumps({"etag": etag}))
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM
        assert server.cdn.ranges == [None]

    with_cdn(use)


def test_a_version_that_only_means_nearly_the_same_is_not_gone_on_with(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.cdn.files["a.mp4"].weak = True
        server.script.plan("download", "cut body")
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM
        assert server.cdn.ranges == [None, None]

    with_cdn(use)


@pytest.mark.parametrize("name", ["wrong range", "ignore range", "short range"])
def test_a_server_that_answers_with_another_part_does_not_spoil_the_file(tmp_path: Path, name: str) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", "cut body")
        server.script.plan("download", name, first=2)
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM

    with_cdn(use)


def test_a_part_that_is_whole_needs_no_more_bytes(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        (tmp_path / "a.mp4.part").write_bytes(FILM)
        etag = server.cdn.files["a.mp4"].etag.replace('"', '\\"')
        (tmp_path / "a.mp4.part.json").write_text(f'{{"etag": "{etag}"}}')
        assert await fetched(cdn, file, tmp_path / "a.mp4") == FILM

    with_cdn(use)


def test_a_server_that_never_gets_further_is_left_in_the_end(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", "503 page", times=1000)
        with pytest.raises(UnreachableError) as caught:
            await fetched(cdn, file, tmp_path / "a.mp4")
        assert caught.value.money == "spent"
        assert server.script.calls["download"] == 6

    with_cdn(use)


@pytest.mark.parametrize(("fault", "seconds"), [("503 page", [0.5, 1.0, 2.0]), ("429 wait", [7.0, 7.0, 7.0])])
def test_a_server_that_is_busy_is_left_alone_for_a_while(
    tmp_path: Path, fault: str, seconds: list[float]
) -> None:
    waits = Waits()

    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", fault, times=3)
        await fetched(replace(cdn, timing=waits.timing()), file, tmp_path / "a.mp4")
        assert waits.seconds == seconds

    with_cdn(use)


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.StreamClosed(), DownloadError("not a public host")],
    ids=repr,
)
def test_an_upload_that_cannot_be_looked_at_counts_as_gone(error: Exception) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    cdn = Cdn("fal", httpx.MockTransport(answer))
    assert not asyncio.run(cdn.holds("https://files.example/a.mp4"))


def test_what_stood_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        to = tmp_path / "a.mp4"
        to.write_bytes(b"mine")
        server.script.plan("download", "cut body")
        server.script.plan("download", "404", first=2)
        with pytest.raises(JobLostError):
            await fetched(cdn, file, to)
        assert to.read_bytes() == b"mine"
        assert await fetched(cdn, file, to) == FILM

    with_cdn(use)


@pytest.mark.parametrize("name", ["401", "403", "404"])
def test_an_address_that_gives_nothing_any_more_is_lost(tmp_path: Path, name: str) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", name)
        with pytest.raises(JobLostError):
            await fetched(cdn, file, tmp_path / "a.mp4")

    with_cdn(use)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("endless", "bytes or more; the limit is"),
        ("too long", "but the limit is"),
        ("page", "no video, image or LoRA"),
        ("squeezed", "compressed"),
        ("422", "answered 422"),
        ("redirect to itself", "more than 3 times"),
        ("redirect to the cloud's metadata", "not on the public internet"),
        ("redirect to http", "only https"),
        ("redirect with a password", "has no host, or a user name"),
    ],
)
def test_what_was_not_promised_is_not_kept(tmp_path: Path, name: str, text: str) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        server.script.plan("download", name, times=10)
        with pytest.raises(RemoteError, match=text) as caught:
            await fetched(cdn, file, tmp_path / "a.mp4")
        assert not isinstance(caught.value, UnreachableError)
        assert "secret" not in str(caught.value)
        assert os.listdir(tmp_path) in ([], ["a.mp4.part.json"])

    with_cdn(use, caps=Caps(video=len(FILM) + 1000))


def test_an_image_has_a_cap_of_its_own(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        with pytest.raises(RemoteError, match="but the limit is 100"):
            await fetched(cdn, file, tmp_path / "a.png")

    with_cdn(use, content_type="image/png", caps=Caps(image=100))


@pytest.mark.parametrize(
    "data",
    [FILM, b"\x89PNG\r\n\x1a\n" + bytes(9), b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 ", b"\x1aE\xdf\xa3"],
    ids=["mp4", "png", "jpeg", "webp", "webm"],
)
def test_every_type_that_providers_give_is_taken(tmp_path: Path, data: bytes) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        assert await fetched(cdn, file, tmp_path / "a") == data

    with_cdn(use, data=data)


def test_a_wrong_size_in_the_result_is_only_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        wrong = RemoteFile(file.url, file.content_type, 3)
        assert await fetched(cdn, wrong, tmp_path / "a.mp4") == FILM
        assert "stated 3 bytes" in caplog.text

    with_cdn(use)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        with pytest.raises(RemoteError, match="cannot be written"):
            await fetched(cdn, file, tmp_path / "missing" / "a.mp4")

    with_cdn(use)


def test_signatures_are_not_in_what_is_raised_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(cdn: Cdn, server: FalServer, file: RemoteFile) -> None:
        signed = RemoteFile(f"{file.url}?X-Amz-Signature=c0ffee", file.content_type)
        server.script.plan("download", "503 page", times=1000)
        with pytest.raises(UnreachableError) as caught:
            await fetched(cdn, signed, tmp_path / "a.mp4")
        assert "c0ffee" not in str(caught.value)
        assert "c0ffee" not in "".join(
            record.getMessage() for record in caplog.records if record.levelno > 10
        )

    with_cdn(use)
