"""A file arrives whole, where ComfyUI looks for it, with the listed hash; or nothing stands in its place."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.model_files.catalogue import Catalogue, ModelFile
from wan_duet.pipelines.model_files.get_files import get_files, web_of
from wan_duet.pipelines.model_files.inventory import Folders, find_files, part_of
from wan_duet.pipelines.progress import Progress, Silent

from ..download.small_web import Loopback, Reply, Site
from .conftest import HOST, path_of, published

TAG = {"ETag": '"one"'}
GGUF = b"GGUF\x03\x00\x00\x00" + bytes(5000)
ROOM = 2**40


def get(
    files: list[ModelFile], folders: Folders, web: Web, progress: Progress | None = None, free: int = ROOM
) -> list[Path]:
    locks = folders["vae"][0].parent.parent / "locks"
    found = find_files(files, folders)
    return get_files(found, web, progress or Silent(), free=lambda _: free, locks=locks)


class Watched(Silent):
    """Counts looks, and stops at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.looks, self.stages = stop_at, 0, list[str]()

    def begin(self, stage: str, total: int, unit: str) -> None:
        self.stages.append(stage)

    def check(self) -> None:
        self.looks += 1
        if self.looks == self.stop_at:
            raise KeyboardInterrupt


def test_files_go_into_the_folders_of_comfyui_and_a_second_call_asks_nobody(
    site: Site, web: Web, folders: Folders, weights: bytes
) -> None:
    files = [
        published(weights, "vae.safetensors", "vae"),
        published(GGUF, "high.gguf", "diffusion_models"),
        published(weights, "lora.safetensors", "loras"),
    ]
    for file, content in zip(files, (weights, GGUF, weights), strict=True):
        site.file(HOST, path_of(file), content, **TAG)
    progress = Watched()
    places = get(files, folders, web, progress)
    assert places == [folders[file.folder][0] / file.name for file in files]
    assert [place.read_bytes() for place in places] == [weights, GGUF, weights]
    assert progress.stages[:2] == ["downloading vae.safetensors", "checking vae.safetensors"]
    asked = len(site.asked)
    assert get(files, folders, web) == []
    assert len(site.asked) == asked
    assert not list(folders["vae"][0].parent.rglob("*.part*"))


def test_another_content_of_the_right_size_is_thrown_away(
    site: Site, web: Web, folders: Folders, weights: bytes
) -> None:
    file = published(weights)
    wrong = weights[:-1] + bytes([weights[-1] ^ 1])
    site.file(HOST, path_of(file), wrong, **TAG)
    with pytest.raises(DownloadError, match=r"arrived with sha256 .* is listed; it was not kept"):
        get([file], folders, web)
    assert list(folders["vae"][0].iterdir()) == []
    site.file(HOST, path_of(file), weights, **TAG)
    assert get([file], folders, web)[0].read_bytes() == weights


def test_another_size_is_refused_before_the_first_byte(
    site: Site, web: Web, folders: Folders, weights: bytes
) -> None:
    file = published(weights, size_bytes=len(weights) + 1)
    site.file(HOST, path_of(file), weights, **TAG)
    with pytest.raises(DownloadError, match=rf"sends {len(weights)} bytes, but {len(weights) + 1} are"):
        get([file], folders, web)
    assert list(folders["vae"][0].iterdir()) == []


def test_a_page_instead_of_a_gguf_file_is_said_to_be_one(site: Site, web: Web, folders: Folders) -> None:
    file = published(b"<!doctype html>" + bytes(3000), "a.gguf", "diffusion_models")
    site.reply(
        HOST, path_of(file), Reply(b"<!doctype html>" + bytes(3000), 200, {"Content-Type": "text/html"})
    )
    with pytest.raises(DownloadError, match="is a web page"):
        get([file], folders, web)


def test_a_stopped_download_is_continued_and_a_whole_part_is_only_checked(
    site: Site, web: Web, folders: Folders, weights: bytes
) -> None:
    file = published(weights)
    site.file(HOST, path_of(file), weights, **TAG)
    with pytest.raises(KeyboardInterrupt):
        get([file], folders, web, Watched(stop_at=4))
    (place,) = [found.place for found in find_files([file], folders)]
    have = part_of(place).stat().st_size
    assert 0 < have < len(weights)
    assert get([file], folders, web) == [place]
    assert site.asked[-1].headers["Range"] == f"bytes={have}-"
    place.rename(part_of(place))
    asked = len(site.asked)
    assert get([file], folders, web) == [place]
    assert len(site.asked) == asked


def test_a_gated_file_says_what_the_user_does_and_names_no_token(
    site: Site, folders: Folders, weights: bytes
) -> None:
    file, token = published(weights), "hf_never_to_be_shown"
    site.reply(HOST, path_of(file), Reply(b"", 401, {"X-Error-Code": "GatedRepo"}))
    web = Web(PublicTransport(Loopback(site), lambda *_: ["93.184.215.14"]), {HOST: token})
    with pytest.raises(DownloadError) as raised:
        get([file], folders, web)
    assert "refused access (401)" in str(raised.value)
    assert "accept the terms of its authors on the page of the repository" in str(raised.value)
    assert "set HF_TOKEN in the environment" in str(raised.value)
    assert token not in str(raised.value)
    assert site.asked[-1].headers["Authorization"] == f"Bearer {token}"


def test_a_disk_without_room_costs_no_request(site: Site, web: Web, folders: Folders, weights: bytes) -> None:
    with pytest.raises(DownloadError, match="make room there, or choose a smaller size"):
        get([published(weights)], folders, web, free=len(weights))
    assert site.asked == []


def test_a_redirect_into_this_network_is_not_followed(
    site: Site, web: Web, folders: Folders, weights: bytes
) -> None:
    file = published(weights)
    site.redirect(HOST, path_of(file), "https://169.254.169.254/latest/meta-data")
    with pytest.raises(DownloadError, match="not on the public internet"):
        get([file], folders, web)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a.gguf", "https://10.0.0.1/a.gguf", "file:///etc/passwd"]
)
def test_an_own_list_reaches_this_machine_only_when_it_says_so(folders: Folders, url: str) -> None:
    file = published(GGUF, "a.gguf", url=url)
    with pytest.raises(DownloadError, match=r"only https|not on the public"):
        get([file], folders, web_of(Catalogue({}), {}))
    if "127.0.0.1" in url:
        with pytest.raises(DownloadError, match="refused"):
            get([file], folders, web_of(Catalogue({}, allow_loopback=True), {}))
    else:
        with pytest.raises(DownloadError, match=r"only https|not on the public"):
            get([file], folders, web_of(Catalogue({}, allow_loopback=True), {}))


def test_two_at_once_fetch_a_file_once(site: Site, web: Web, folders: Folders, weights: bytes) -> None:
    file = published(weights)
    site.file(HOST, path_of(file), weights, **TAG)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            get([file], folders, web)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(site.asked) == 1
    assert (folders["vae"][0] / file.name).read_bytes() == weights
