"""How long a server of files is waited for, on a clock that needs no time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from wan_duet.pipelines.download.address import read_address
from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.errors import DownloadError
from wan_duet.pipelines.progress import Silent

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
    wanted = read_address("https://files.example/a/style.safetensors")
    slow = SlowNetwork(weights, phase, healthy_s)
    assert Downloads(tmp_path / "slow", Web(slow)).get(wanted, Silent()).read_bytes() == weights
    dead = SlowNetwork(weights, phase, dead_s)
    with pytest.raises(DownloadError, match="takes too long; try again"):
        Downloads(tmp_path / "dead", Web(dead)).get(wanted, Silent())
    assert dead.waited_s < dead_s
