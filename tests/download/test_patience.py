"""How long a server of files is waited for, on a clock that needs no time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.fetch import DownloadLimits
from wan_duet.pipelines.download.store import Store
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.progress import Silent

from .conftest import MakeDownloads
from .small_web import Site
from .test_fetch import HOST, PATH, wanted

CUT = {"connect": httpx.ConnectTimeout, "read": httpx.ReadTimeout, "write": httpx.WriteTimeout}


@dataclass
class SlowNetwork(httpx.BaseTransport):
    """One phase of every call takes its time, and is cut off as httpx does it."""

    body: bytes
    phase: str
    takes_s: float
    waited_s: float = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        allowed = request.extensions["timeout"][self.phase]
        self.waited_s += min(self.takes_s, allowed)
        if self.takes_s > allowed:
            raise CUT[self.phase]("takes too long")
        return httpx.Response(200, headers={"content-length": str(len(self.body))}, stream=Body(self.body))


class Body(httpx.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self):
        yield self._body


@pytest.mark.parametrize(
    ("phase", "healthy_s", "dead_s"),
    [
        ("connect", 3.0, 60.0),  # two lost SYN packets cost 1 s and 2 s (RFC 6298)
        ("read", 10.0, 120.0),  # a store that brings a file from afar is silent before the first byte
        ("write", 10.0, 120.0),
    ],
)
def test_a_slow_server_is_waited_for_and_a_dead_one_is_not(
    tmp_path: Path, weights: bytes, phase: str, healthy_s: float, dead_s: float
) -> None:
    slow = SlowNetwork(weights, phase, healthy_s)
    assert Downloads(tmp_path / "slow", Web(slow)).get(wanted(), Silent()).read_bytes() == weights
    dead = SlowNetwork(weights, phase, dead_s)
    with pytest.raises(DownloadError, match="takes too long; try again"):
        Downloads(tmp_path / "dead", Web(dead)).get(wanted(), Silent())
    assert dead.waited_s < dead_s


def test_a_server_that_gives_a_little_and_breaks_off_is_not_asked_for_ever(
    site: Site, downloads: MakeDownloads, weights: bytes
) -> None:
    site.file(HOST, PATH, weights, ETag='"one"')
    whole = site.pages[HOST, PATH]
    site.pages[HOST, PATH] = lambda asked: replace(whole(asked), breaks_after=64)
    with pytest.raises(DownloadError, match="are kept, run again to resume"):
        downloads().get(wanted(), Silent())
    assert 2 <= len(site.asked) <= 10


class Cut(Body):
    """What is missing goes unnoticed by the transport."""

    def __iter__(self):
        yield self._body[:64]


def test_a_body_that_ends_early_without_an_error_is_continued(tmp_path: Path, weights: bytes) -> None:
    bodies = [Cut(weights), Body(weights[64:])]

    def answer(request: httpx.Request) -> httpx.Response:
        begin = 0 if len(bodies) == 2 else 64
        size = len(weights)
        spread = {"content-range": f"bytes 64-{size - 1}/{size}"} if begin else {}
        headers = {"etag": '"one"', "content-length": str(size - begin), **spread}
        return httpx.Response(206 if begin else 200, headers=headers, stream=bodies.pop(0))

    file = Downloads(tmp_path, Web(httpx.MockTransport(answer))).get(wanted(), Silent())
    assert file.read_bytes() == weights
    assert bodies == []


@pytest.mark.parametrize(("free", "fits"), [(2**30, True), (100 * 2**20, False)])
def test_a_download_leaves_some_room_on_the_disk_and_does_not_ask_for_much(
    site: Site, downloads: MakeDownloads, weights: bytes, free: int, fits: bool
) -> None:
    site.file(HOST, PATH, weights)
    usual = replace(downloads(), limits=DownloadLimits(2**24, lambda _: free))
    if fits:
        assert usual.get(wanted(), Silent()).read_bytes() == weights
        return
    with pytest.raises(DownloadError, match="must stay free; free disk space there"):
        usual.get(wanted(), Silent())


def test_a_stop_is_heard_while_another_process_downloads(tmp_path: Path, downloads: MakeDownloads) -> None:
    class Stops(Silent):
        looks = 0

        def check(self) -> None:
            self.looks += 1
            if self.looks > 2:
                raise KeyboardInterrupt

    folder = tmp_path / "kept"
    with Store(folder).locked(lambda: None):
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            downloads(folder).get(wanted(), Stops())
        assert 0.2 < time.monotonic() - begin < 5.0  # two waits between three looks
