"""A fleet of two real Ray nodes on this machine: workers and a node are killed, strangers are refused.

The nodes are processes of `ray start`, as `wan-duet workers start` makes them.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.fleet.batch_run import BatchResult
from wan_duet.pipelines.fleet.cluster_access import ClusterAccess, make_token
from wan_duet.pipelines.fleet.process_worker import ProcessWorker
from wan_duet.pipelines.fleet.ray_cluster import joined_process, make_slots, slots_of
from wan_duet.pipelines.fleet.ray_node import RayNode, started_node
from wan_duet.pipelines.fleet.ray_worker import RayWorker
from wan_duet.pipelines.request import parse

from .batches import SETTINGS, Painter, paint, picture, write_rows
from .ray_painter import painter_in_slot

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX"),
]
TESTS = Path(__file__).parents[1]


@dataclass
class Fleet:
    """Two nodes with one slot each. wait: while this file is there, rows wait amid their making."""

    nodes: list[RayNode]
    slots: list[str]
    access: ClusterAccess
    wait: Path
    end_second: Callable[[], None]

    @property
    def address(self) -> str:
        return self.nodes[0].address

    def workers(self) -> list[ProcessWorker]:
        return [
            ProcessWorker(
                name, Painter().check, partial(RayWorker, self.address, name, self.access), place="ray"
            )
            for name in self.slots
        ]

    def pid_of(self, row: str) -> int:
        """The process that paints a row now."""
        file = self.wait.with_name(f"{row}.pid")
        for _ in range(1500):
            if file.exists() and (text := file.read_text()):
                return int(text)
            time.sleep(0.02)
        raise AssertionError(f"{row} was not begun")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    token, wait = make_token(folder), folder / "wait"
    access, elsewhere = ClusterAccess(token, "127.0.0.2"), ClusterAccess(token, "127.0.0.3")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as first, ExitStack() as second:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        head = first.enter_context(started_node(access, slots=1))
        other = second.enter_context(started_node(elsewhere, slots=1, address=head.address))
        slots = []
        for node, own in ((head, access), (other, elsewhere)):
            make = partial(painter_in_slot, wait)
            made = (head.address, own, node.resource, 1, 0.0, make, str(folder / "contents"))
            slots += joined_process(make_slots, *made)
        yield Fleet([head, other], slots, access, wait, second.close)
        first.close()
    assert not head.is_alive
    assert not _left(folder), "a process of Ray is left"


def _left(folder: Path) -> list[str]:
    """Processes that were given the token of this fleet."""
    found = []
    for process in psutil.process_iter(["pid", "environ", "name"]):
        variables = process.info["environ"] or {}
        if process.pid != os.getpid() and str(folder) in variables.get("RAY_AUTH_TOKEN_PATH", ""):
            found.append(process.info["name"])
    return found


def batch(folder: Path, count: int) -> Path:
    return write_rows(folder / "rows.jsonl", *({"prompt": f"p{i}", "seed": i} for i in range(count)))


def assert_made(out: Path, count: int) -> None:
    """Each row has one picture, which is the one that it has when it is painted alone."""
    made = {file.stem: file.read_bytes() for file in out.glob("*.png")}
    wanted = {
        f"{i + 1:05}": picture(parse("text-to-video", {"prompt": f"p{i}", "seed": i})) for i in range(count)
    }
    assert made == wanted
    assert {file.stem for file in out.glob("*.json")} == wanted.keys()


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_rows_run_on_both_nodes_and_a_killed_worker_costs_its_row_time_only(
    fleet: Fleet, tmp_path: Path
) -> None:
    found = joined_process(slots_of, fleet.address, fleet.access)
    assert found.keys() == set(fleet.slots)
    assert all(about["settings"] == SETTINGS for about in found.values())
    fleet.wait.touch()

    def kill() -> None:
        pid = fleet.pid_of("00001")
        assert pid in [about["pid"] for about in found.values()]
        os.kill(pid, signal.SIGKILL)
        fleet.wait.unlink()

    killer = in_background(kill)
    out = tmp_path / "out"
    assert paint(batch(tmp_path, 6), out, fleet.workers()) == BatchResult(6, 0, 0)
    killer.join()
    assert_made(out, 6)


@pytest.mark.parametrize("token", [None, "f" * 64])
def test_a_process_without_the_token_learns_nothing(fleet: Fleet, tmp_path: Path, token: str | None) -> None:
    file = tmp_path / "token"
    file.write_text(token or "")
    stranger = ClusterAccess(None if token is None else file, fleet.access.host)
    began = time.monotonic()
    joined_process(slots_of, fleet.address, fleet.access)
    patience_s = max(10.0, 2 * (time.monotonic() - began))  # enough for one that has it
    with pytest.raises(HostError):
        joined_process(slots_of, fleet.address, stranger, timeout_s=patience_s)


def test_a_private_cluster_listens_on_this_machine_alone_and_leaves_nothing(tmp_path: Path) -> None:
    found = set()
    with started_node(ClusterAccess(make_token(tmp_path)), slots=1) as node:
        for process in psutil.Process(node.process.pid).children(recursive=True):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add(process.name())
                    assert connection.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1"), process.name()
    assert {"gcs_server", "raylet"} <= found
    assert not _left(tmp_path), "a process of Ray is left"


def test_rows_of_a_killed_node_run_elsewhere(fleet: Fleet, tmp_path: Path) -> None:
    fleet.wait.touch()

    def kill() -> None:
        fleet.pid_of("lost")
        fleet.end_second()
        fleet.wait.unlink()

    rows = write_rows(
        tmp_path / "rows.jsonl",
        *({"prompt": f"p{i}", "seed": i, "id": name} for i, name in enumerate(("lost", "kept", "last"))),
    )
    killer = in_background(kill)
    out = tmp_path / "out"
    assert paint(rows, out, fleet.workers()) == BatchResult(3, 0, 0)
    killer.join()
    assert {file.stem for file in out.glob("*.png")} == {"lost", "kept", "last"}
