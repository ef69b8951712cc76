"""Ray's head is killed while Run Fleet waits in ComfyUI: ComfyUI lives, and there is one file."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from wan_duet.pipelines.fleet.cluster_access import ClusterAccess, make_token
from wan_duet.pipelines.fleet.process_worker import ProcessWorker
from wan_duet.pipelines.fleet.ray_cluster import joined_process, make_slots
from wan_duet.pipelines.fleet.ray_node import RayNode, started_node
from wan_duet.pipelines.fleet.ray_worker import RayWorker
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.service.fleet_address import keep_address

from ..fleet.batches import Painter
from ..fleet.ray_painter import painter_in_slot
from ..service.painted import running
from .test_run_fleet import graph

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX"),
]
TESTS = Path(__file__).parents[1]
HOST = "127.0.0.2"


@contextmanager
def head(access: ClusterAccess, port: int, wait: Path) -> Iterator[tuple[RayNode, list[str]]]:
    """A head with one slot, which waits amid a picture as long as the file `wait` is there."""
    with started_node(access, slots=1, port=port) as node:
        make = partial(painter_in_slot, wait)
        given = (node.address, access, node.resource, 1, 0.0, make, str(wait.with_name("contents")))
        yield node, joined_process(make_slots, *given)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def lose(node: RayNode) -> None:
    """Kill every process of a machine at once."""
    family = [psutil.Process(node.process.pid), *psutil.Process(node.process.pid).children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=30)


def test_comfyui_lives_and_has_one_file_when_the_head_is_lost_and_started_again(
    tmp_path: Path, host: HeadlessComfyUI, client: ComfyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    access, port, wait = ClusterAccess(make_token(tmp_path), HOST), free_port(), tmp_path / "wait"
    wait.touch()
    before = set(host.output.rglob("*.png"))
    with ExitStack() as stack:
        first, names = stack.enter_context(head(access, port, wait))
        address = f"{HOST}:{port}"
        slots = [
            ProcessWorker(name, Painter().check, partial(RayWorker, address, name, access), place="ray")
            for name in names
        ]
        service = stack.enter_context(running(tmp_path, workers=slots))
        key = service.http.headers["Authorization"].removeprefix("Bearer ")
        keep_address(host.user / "__wan_duet", service.url, key)
        stack.callback((host.user / "__wan_duet" / "fleet.json").unlink)

        def lose_and_start_again() -> None:
            while not list(tmp_path.glob("video_*.pid")):
                threading.Event().wait(0.1)
            lose(first)
            stack.enter_context(head(access, port, wait))
            wait.unlink()

        thread = threading.Thread(target=lose_and_start_again, daemon=True)
        thread.start()
        done = client.run(graph(host, "a red ball", 44), timeout_s=300)
        thread.join()
        (job,) = service.queue.jobs("client-0", 10)
        assert (job.state, job.place) == ("done", names[0])
        assert job.attempt > 1
    assert len(done.outputs["images"]["images"]) == 1
    assert len(set(host.output.rglob("*.png")) - before) == 1
    assert host.client.get("/system_stats")
