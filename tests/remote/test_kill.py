"""A process is killed anywhere between Run and the file on disk: the file arrives, one job was created."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..servers.fal import FalServer
from .buyer import KEY, buy
from .workshop import JOB_POINTS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 and fork are POSIX")
ROOT = Path(__file__).parents[2]

POINTS = [*JOB_POINTS, "status read:2", "downloading:2"]
STALLED = ["initiate", "upload", "submit", "status", "result", "download"]  # calls of which no answer comes


@dataclass
class Buyer:
    """The process that forks. One at a time."""

    process: subprocess.Popen[str]
    folder: Path
    url: str

    def start(self, prompt: str, die_at: str | None = None, *, resubmit: bool = False) -> int:
        given = {"folder": str(self.folder), "url": self.url, "prompt": prompt}
        self._write(json.dumps({**given, "die_at": die_at, "resubmit": resubmit}))
        return int(self._read())

    def end(self) -> int:
        return int(self._read())

    def run(self, prompt: str, *, resubmit: bool = False) -> dict[str, Any]:
        """What a process that nobody kills has to say."""
        self.start(prompt, resubmit=resubmit)
        assert self.end() == 0
        answer: dict[str, Any] = json.loads((self.folder / "bought.json").read_text())
        return answer

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def forker() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.remote.buyer"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate("")
    assert process.returncode == 0


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[[FalServer], FalServer]]:
    """Starts servers on a loop of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started: list[FalServer] = []

    def start(server: FalServer) -> FalServer:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        started.append(server)
        return server

    yield start
    for server in started:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def server(running: Callable[[FalServer], FalServer]) -> FalServer:
    return running(FalServer(key=KEY))


@pytest.fixture
def buyer(forker: subprocess.Popen[str], server: FalServer, tmp_path: Path) -> Buyer:
    (tmp_path / "start.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(4000))  # too large to go along
    return Buyer(forker, tmp_path, server.url)


def arrived(answer: dict[str, Any]) -> bool:
    file = Path(answer["file"])
    receipt = json.loads(file.with_suffix(".json").read_text())
    return file.read_bytes()[4:8] == b"ftyp" and receipt["seed"] == 7


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_the_file_arrives_and_one_job_was_created(
    point: str, buyer: Buyer, server: FalServer
) -> None:
    buyer.start("a red ball", die_at=point)
    assert buyer.end() == -signal.SIGKILL
    answer = buyer.run("a red ball")
    if point == "submitting written":  # nobody here can know that the request never left
        assert answer["error"] == "AmbiguousError"
        assert "lists no such request, or not yet" in answer["text"]
        assert len(server.jobs) == 0
        answer = buyer.run("a red ball", resubmit=True)
    assert arrived(answer)
    assert len(server.jobs) == 1
    assert len(list((buyer.folder / "out").glob("*.mp4"))) == 1


@pytest.mark.parametrize("call", STALLED)
def test_killed_while_the_provider_is_silent_the_file_arrives_and_one_job_was_created(
    call: str, buyer: Buyer, server: FalServer
) -> None:
    server.script.plan(call, "stall", after=True)
    child = buyer.start("a blue ball")
    until(lambda: server.jobs if call == "submit" else server.script.calls[call])
    os.kill(child, signal.SIGKILL)
    assert buyer.end() == -signal.SIGKILL
    assert arrived(buyer.run("a blue ball"))
    assert len(server.jobs) == 1


def test_when_the_process_that_runs_a_job_is_killed_the_one_that_waits_goes_on_with_it(
    buyer: Buyer, server: FalServer
) -> None:
    server.script.plan("status", "stall")
    child = buyer.start("a green ball")
    until(lambda: server.script.calls["status"])
    other = threading.Thread(target=buy, args=(buyer.folder, server.url, "a green ball", None, False))
    other.start()
    time.sleep(0.1)
    assert server.script.calls["status"] == 1, "two processes never look at one job"
    os.kill(child, signal.SIGKILL)
    assert buyer.end() == -signal.SIGKILL
    other.join()
    assert arrived(json.loads((buyer.folder / "bought.json").read_text()))
    assert len(server.jobs) == 1
