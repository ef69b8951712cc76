"""A worker of a batch in a process of its own on this machine, started by its first row and after its end."""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..errors import WorkerAbsentError, WorkerLostError
from ..request.base import WanRequest
from .retries import FailedAttemptError
from .worker import LeaseLost, MadeFile, Needs, Task, Worker
from .worker_process import BEAT_S, serve

if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection as Connection
else:
    from multiprocessing.connection import Connection

__all__ = ["ProcessWorker"]

_END_S = 10.0


class ProcessWorker:
    """Carries out rows by the worker that `make_worker` makes in the new process.

    check:       of that worker, but in this process.
    make_worker: can be pickled.
    lease_s:     a process that is silent for so long loses its row.
    memory_bytes: of its GPU, if known.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[WanRequest], Needs],
        make_worker: Callable[[], Worker],
        *,
        place: str = "local",
        lease_s: float = 20.0,
        memory_bytes: int | None = None,
    ) -> None:
        self.name, self.check, self.place, self.lease_s = name, check, place, lease_s
        self.memory_bytes = memory_bytes
        self._make_worker = make_worker
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._starting = threading.Lock()
        self._is_ready = self._closed = False

    @property
    def pid(self) -> int | None:
        """The id of its process; None before its first row."""
        return None if self._process is None else self._process.pid

    def make(self, task: Task) -> MadeFile:
        connection = self._started()
        try:
            self._send(
                kind=task.request.kind,
                request=task.request.document(),
                folder=str(task.folder),
                name=task.name,
                attempt=task.attempt,
                smaller=task.smaller,
            )
            return self._result(connection, task)
        except (EOFError, OSError):
            # A process that ended before its worker was there did nothing for the row.
            raise (WorkerLostError if self._is_ready else WorkerAbsentError)(self._fate()) from None

    def close(self) -> None:
        """Let the process end, amid a row at its next step; kill one that does not."""
        with self._starting:
            self._closed = True
        if self._process is None:
            return
        with suppress(OSError):
            self._send(end=True)
        self._process.join(_END_S)
        self._kill()

    def _result(self, connection: Connection, task: Task) -> MadeFile:
        lost = False
        while True:
            if not connection.poll(BEAT_S):
                continue  # silent: its lease runs out elsewhere
            message = json.loads(connection.recv_bytes())
            if "ready" in message:
                self._is_ready = True
            elif "beat" in message and not lost:
                try:
                    task.beat()
                except LeaseLost:
                    lost = True
                    self._send(stop=True)
            elif "beat" not in message:
                if lost or "stopped" in message:
                    raise LeaseLost
                if message.get("failed") == "lost":
                    self._kill()  # what it has joined is gone; the next row begins a new one
                if "failed" in message:
                    raise FailedAttemptError(message["failed"], message["error"])
                return MadeFile(Path(message["made"]), message["frames_sha256"])

    def _send(self, **message: Any) -> None:
        assert self._connection is not None  # noqa: S101 - `_started` has made it
        self._connection.send_bytes(json.dumps(message).encode())

    def _started(self) -> Connection:
        with self._starting:
            if self._closed:
                raise WorkerLostError(f"{self.name} is closed")
            if self._process is None or not self._process.is_alive() or self._connection is None:
                self._kill()
                self._is_ready = False
                self._connection, theirs = multiprocessing.Pipe()
                self._process = multiprocessing.get_context("spawn").Process(  # inherits no lock or device
                    target=serve, args=(theirs, self._make_worker), name=self.name, daemon=True
                )
                self._process.start()
                theirs.close()  # else the end of the process would not be seen
            return self._connection

    def _fate(self) -> str:
        assert self._process is not None  # noqa: S101
        self._process.join(_END_S)
        code = self._process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return f"the process of {self.name} {how}"

    def _kill(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()
