"""Machines of a fleet for a bench: each is a process of `wan-duet workers start` on a loopback address.

A machine is lost like by a power cut: its whole family of processes is killed at once with signal 9.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["RayMachines"]

_HEAD, _OTHERS = "127.0.0.2", "127.0.0."
_END_S = 60.0


@dataclass
class RayMachines:
    """So many machines with `slots` workers each. The first one is the head.

    folder: of their token, logs and contents. environment: of all processes that join.
    """

    count: int
    slots: int
    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        own = {"OMP_NUM_THREADS": "1", "XDG_DATA_HOME": str(self.folder), "COMFYUI_PATH": ""}
        return {**os.environ, **own}

    @property
    def joining(self) -> list[str]:
        """The flags with which a batch joins."""
        return ["--on", "ray", "--address", f"{_HEAD}:{self.port}", "--listen", _HEAD]

    def start(self) -> None:
        """Start all machines, and wait until their models are there."""
        self.port = self.port or _free_port()
        self.running = [self._started(0)]
        self.running += [self._started(number) for number in range(1, self.count)]

    def lose_node(self, chance: random.Random) -> None:
        """Kill a machine that is not the head, and start another one in its place."""
        number = chance.randrange(1, self.count)
        _kill_family(self.running[number])
        self.running[number] = self._started(number)

    def lose_head(self) -> None:
        """Kill the head, let the others end, and start all anew at the same address."""
        _kill_family(self.running[0])
        self.stop(first=1)
        self.start()

    def lose_worker(self, chance: random.Random) -> bool:
        """Kill the process of a slot. Returns whether there was one."""
        found = [one for machine in self.running for one in _family(machine) if _is_slot(one)]
        with suppress(psutil.NoSuchProcess, IndexError):
            chance.choice(found).kill()
            return True
        return False

    def stop(self, first: int = 0) -> None:
        """Let the machines from this one on end, and kill what is left of them."""
        for machine in reversed(self.running[first:]):
            family = _family(machine)
            machine.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                machine.wait(_END_S)
            _kill(family)

    def _started(self, number: int) -> subprocess.Popen[str]:
        host = f"{_OTHERS}{number + 2}"
        where = ["--address", f"{_HEAD}:{self.port}"] if number else ["--port", str(self.port)]
        flags = ["--model", "toy", "--slots", str(self.slots), "--listen", host, "--json", *where]
        command = [sys.executable, "-m", "wan_duet", "workers", "start", *flags]
        with (self.folder / f"machine-{number}.log").open("a") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        said = process.stdout.readline() if process.stdout is not None else ""
        if not said:
            raise RuntimeError(f"machine {number} did not start: {Path(log.name).read_text()[-2000:]}")
        return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HEAD, 0))
        return int(probe.getsockname()[1])


def _family(machine: subprocess.Popen[str]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(machine.pid)
        return [found, *found.children(recursive=True)]
    return []


def _is_slot(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.cmdline()[:1] == ["ray::RaySlot"] or "RaySlot" in process.cmdline()[0]
    return False


def _kill_family(machine: subprocess.Popen[str]) -> None:
    _kill(_family(machine))
    machine.wait()


def _kill(family: list[psutil.Process]) -> None:
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=_END_S)
