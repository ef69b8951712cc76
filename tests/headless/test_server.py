"""A process that takes ComfyUI's place: it is waited for, heard when it fails, and always gone afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI

ROOT = Path(__file__).resolve().parents[2]
LISTENS = """
import http.server, json, os, signal, subprocess, sys, time
{before}
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({knows}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
print(json.dumps(sys.argv), flush=True)
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()
"""
KNOWS = {"WanDuetTextToVideo": {}}


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., Host]:
    """A folder whose main.py does what it is told before it listens."""

    def make(before: str = "", knows: object = KNOWS, cpu: bool = False) -> Host:
        (tmp_path / "main.py").write_text(LISTENS.format(before=before, knows=knows))
        return Host(tmp_path, Path(sys.executable), ROOT, cpu, None)

    return make


def is_alive(pid: int) -> bool:
    """A process that has ended and that nobody has asked about counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def process(ends_after_s: float = 1e9, signal_to_send: int | None = None) -> type[subprocess.Popen[bytes]]:
    """A process that has ended only when it was waited for at least so long. Nobody really waits that long.

    signal_to_send: what ends it then, if it does not end by itself. Nobody may wait longer than a minute.
    """

    class Process(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if timeout is not None and timeout < ends_after_s:
                assert timeout <= 60.0
                raise subprocess.TimeoutExpired(self.args, timeout)
            if signal_to_send is not None:
                self.send_signal(signal_to_send)
            return super().wait()

    return Process


def always(seconds: float) -> Callable[[], float]:
    """A clock that shows 0 at first, and this from then on."""
    looks = itertools.count()
    return lambda: seconds if next(looks) else 0.0


@pytest.mark.parametrize("cpu", [False, True])
def test_it_runs_on_folders_of_its_own_and_leaves_nothing(host: Callable[..., Host], cpu: bool) -> None:
    with HeadlessComfyUI(host(cpu=cpu)) as comfyui:
        base, pid = comfyui.base, comfyui.pid
        assert str(comfyui.output) in comfyui.log()
        assert ("--cpu" in comfyui.log()) == cpu
    assert not base.exists()
    assert not is_alive(pid)


def test_a_start_that_takes_two_minutes_is_waited_for(host: Callable[..., Host]) -> None:
    with HeadlessComfyUI(host(before="time.sleep(0.5)"), clock=always(120.0)) as comfyui:
        assert is_alive(comfyui.pid)


def test_a_start_that_takes_half_an_hour_is_given_up(host: Callable[..., Host]) -> None:
    comfyui = HeadlessComfyUI(host(before="time.sleep(60)"), clock=always(1800.0))
    with pytest.raises(HostError, match="has not started after"), comfyui:
        pass


def test_the_error_of_a_failed_start_has_the_end_of_the_log(host: Callable[..., Host]) -> None:
    begin = time.monotonic()
    with (
        pytest.raises(HostError, match=r"(?s)ended during its start.*no room for the server"),
        HeadlessComfyUI(host(before="sys.exit('no room for the server')")),
    ):
        pass
    assert time.monotonic() - begin < 100  # not the whole time that a start may take


def test_a_comfyui_without_this_pack_is_told(host: Callable[..., Host]) -> None:
    with pytest.raises(HostError, match="did not load this pack"), HeadlessComfyUI(host(knows={})):
        pass


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
def test_a_process_that_hears_no_signal_is_gone_with_its_children(
    host: Callable[..., Host], tmp_path: Path
) -> None:
    child = "signal.signal(signal.SIGTERM, signal.SIG_IGN); import time; time.sleep(60)"
    before = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; {child}"])
open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
"""
    with HeadlessComfyUI(host(before), popen=process()) as comfyui:
        pid, child_pid = comfyui.pid, int((tmp_path / "child").read_text())
        assert is_alive(child_pid)
    assert not is_alive(pid)
    assert not is_alive(child_pid)


def test_a_process_that_ends_in_good_order_is_given_the_time(
    host: Callable[..., Host], tmp_path: Path
) -> None:
    before = f"""
def leave(number, frame):
    time.sleep(0.3)
    open({str(tmp_path / "said")!r}, "w").write("goodbye")
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
"""
    with HeadlessComfyUI(host(before), popen=process(ends_after_s=5.0)):
        pass
    assert (tmp_path / "said").read_text() == "goodbye"


@pytest.mark.parametrize(("seconds", "is_told"), [(1.0, True), (10.0, False)])
def test_a_death_a_moment_after_the_connection_broke_is_told_and_a_late_one_is_not_waited_for(
    host: Callable[..., Host], seconds: float, is_told: bool
) -> None:
    with HeadlessComfyUI(host(), popen=process(seconds, signal.SIGKILL)) as comfyui:
        with pytest.raises(HostError) as caught:
            comfyui.run({"1": {"class_type": "Node", "inputs": {}}})  # it speaks no websocket
        assert ("The last lines of its log" in str(caught.value)) == is_told


def test_the_error_of_a_process_that_dies_during_a_job_has_the_end_of_its_log(
    host: Callable[..., Host],
) -> None:
    with HeadlessComfyUI(host()) as comfyui:
        os.kill(comfyui.pid, 9)
        with pytest.raises(HostError, match="The last lines of its log"):
            comfyui.run({"1": {"class_type": "Node", "inputs": {}}})
