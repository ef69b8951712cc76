"""A worker of a batch that is a slot of a fleet. Lives in a process of its own, which joins the cluster.

Ray replaces signal handlers, and ends the process when the head of the cluster is gone. Only this process is
hit.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from ..errors import MediaError, WorkerLostError
from ..request.base import WanRequest
from .cluster_access import ClusterAccess
from .ray_cluster import NAMESPACE, join, lost
from .retries import FailedAttemptError
from .travelling_files import PIECE_BYTES, pieces_of, travelling
from .worker import LeaseLost, MadeFile, Needs, Task

__all__ = ["RayWorker"]

_LOOK_S = 0.5
_SILENT_S = 30.0  # a slot that answers nothing for so long is lost
_CALL_S = 60.0  # for a piece of a file


class RayWorker:
    """The slot `name` of the cluster at `address`. Raises WorkerLostError if it cannot be reached."""

    place = "ray"
    lease_s = 30.0
    memory_bytes = None  # the batch knows it of the slot

    def __init__(self, address: str, name: str, access: ClusterAccess) -> None:
        self.name = name
        self._ray = join(address, access)
        with lost(f"{name} at {address}"):
            self._slot = self._ray.get_actor(name, namespace=NAMESPACE)

    def check(self, request: WanRequest) -> Needs:
        raise NotImplementedError("the batch checks before it starts this process")

    def make(self, task: Task) -> MadeFile:
        with lost(self.name):
            document, files = travelling(task.request.document())
            for file in files:
                self._send(file.path, file.sha256, task)
            given = {
                "kind": task.request.kind,
                "request": document,
                "name": task.name,
                "attempt": task.attempt,
                "smaller": task.smaller,
            }
            return self._result(self._made(json.dumps(given).encode(), task), task)

    def close(self) -> None:
        self._ray.shutdown()

    def _send(self, path: Path, sha256: str, task: Task) -> None:
        """Bring a file to the machine of the slot, unless it is there. Raises MediaError."""
        if self._now(self._slot.holds.remote(sha256, path.name)):
            return
        last = max(path.stat().st_size - 1, 0) // PIECE_BYTES
        for number, piece in enumerate(pieces_of(path)):
            task.beat()
            sent = self._slot.take.remote(sha256, path.name, number, piece, number == last)
            answer = json.loads(self._now(sent))
            if "error" in answer:
                raise MediaError(f"{path.name}: {answer['error']}")

    def _made(self, given: bytes, task: Task) -> dict[str, Any]:
        """Return what the slot says at the end of the task. Raises WorkerLostError if it goes silent."""
        owner = uuid.uuid4().hex
        made, beating = self._slot.make.remote(owner, given), self._slot.beat.remote(owner)
        heard_at = time.monotonic()
        while not self._ray.wait([made], timeout=_LOOK_S)[0]:
            try:
                task.beat()
            except LeaseLost:
                self._slot.stop.remote(owner)
                raise
            if self._ray.wait([beating], timeout=0)[0]:
                self._ray.get(beating)
                heard_at, beating = time.monotonic(), self._slot.beat.remote(owner)
            if time.monotonic() - heard_at > _SILENT_S:
                self._slot.stop.remote(owner)
                raise WorkerLostError(f"{self.name} has not answered for {_SILENT_S:.0f} s")
        return dict(json.loads(self._ray.get(made)))

    def _result(self, said: dict[str, Any], task: Task) -> MadeFile:
        if "stopped" in said:
            raise WorkerLostError(f"{self.name} gave the row up: it did not hear from this process")
        if "failed" in said:
            raise FailedAttemptError(said["failed"], said["error"])
        for file in said["files"]:
            self._fetch(file, task)
        return MadeFile(task.folder / _base(said["files"][0]["name"]), said["frames_sha256"])

    def _fetch(self, file: dict[str, Any], task: Task) -> None:
        digest = hashlib.sha256()
        with (task.folder / _base(file["name"])).open("wb") as stream:
            for number in range(max(file["size"] - 1, 0) // PIECE_BYTES + 1):
                task.beat()
                piece = self._now(self._slot.read.remote(file["name"], number))
                digest.update(piece)
                stream.write(piece)
        if digest.hexdigest() != file["sha256"]:
            raise WorkerLostError(f"{self.name}: {file['name']} arrived damaged")

    def _now(self, call: Any) -> Any:
        return self._ray.get(call, timeout=_CALL_S)


def _base(name: str) -> str:
    """Return the last part of a name from another machine: nothing is written outside of the folder."""
    return os.path.basename(name.replace("\\", "/"))
