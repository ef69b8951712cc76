"""A node of a fleet on this machine: starts `ray start`, and ends every process of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..errors import HostError
from .cluster_access import ClusterAccess

__all__ = ["RayNode", "started_node"]

_START_S = 60.0
_END_S = 15.0
_STORE_BYTES = 128 << 20  # pieces of 8 MiB travel; Ray takes a third of the memory if nothing is said
# `ray`, which Linux sends SIGTERM when the process that started it is killed: 1 is PR_SET_PDEATHSIG.
_RAY = """import ctypes, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
from ray.scripts.scripts import main
main()
"""
_SESSION = "r"  # short: see below
_STARTED = "Ray runtime started"


@dataclass(frozen=True)
class RayNode:
    """A node that runs. address: of the cluster. resource: what only this node has, one per slot."""

    address: str
    resource: str
    process: subprocess.Popen[bytes]

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


@contextmanager
def started_node(
    access: ClusterAccess, *, slots: int, address: str | None = None, port: int = 0
) -> Iterator[RayNode]:
    """Start a node, and end it with all of its processes.

    slots: 0 for a node that only lets this machine join. address: of the cluster to join; None starts one,
    whose head this node is. port: of the head; 0 takes a free one.

    Raises HostError with what Ray says if it does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="wdray"))  # short: paths of sockets may have 107 characters
    resource = f"wd{uuid.uuid4().hex[:10]}"
    command = [
        *(sys.executable, "-c", _RAY, "start", "--block", "--disable-usage-stats"),
        *(f"--node-ip-address={access.host}", f"--num-cpus={slots}", f"--object-store-memory={_STORE_BYTES}"),
        *((f'--resources={{"{resource}": {slots}}}',) if slots else ()),
        *((f"--address={address}",) if address else _head(port, folder)),
    ]
    log = folder / "start.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own Python
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **access.environment()},
            start_new_session=True,  # Ctrl-C reaches us, and we end it
        )
    try:
        _wait_until_started(process, log)
        yield RayNode(address or _address_in(folder), resource, process)
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _head(port: int, folder: Path) -> tuple[str, ...]:
    return ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder / _SESSION}")


def _address_in(folder: Path) -> str:
    """Return the address of the head, which Ray writes into its folder, on a busy machine a while later.

    Raises HostError if it does not.
    """
    file, until = folder / _SESSION / "ray_current_cluster", time.monotonic() + _END_S
    while time.monotonic() < until:
        if file.exists() and (address := file.read_text(encoding="utf-8").strip()):
            return address
        time.sleep(0.1)
    raise HostError(f"ray start did not say the address of its head in {file}")


def _wait_until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        said = log.read_text(encoding="utf-8", errors="replace")
        if _STARTED in said:
            return
        if process.poll() is not None:
            raise HostError(f"ray start ended with code {process.returncode}: {_last_lines(said)}")
        time.sleep(0.1)
    raise HostError(f"ray start was not ready after {_START_S:.0f} s: {_last_lines(said)}")


def _last_lines(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[-3:])[-600:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a node end, and kill what does not."""
    family = _descendants(process.pid)
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    left = [one for one in family if one.is_running()]
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    if process.poll() is None:
        process.kill()
    process.wait()
    psutil.wait_procs(left, timeout=_END_S)


def _descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []
