"""The actor of a fleet: holds one model on one GPU or CPU slot, and carries out one task at a time.

What a request says travels as JSON text and bytes: Ray pickles neither. A task ends by itself when its driver
is silent, so a driver that was killed holds no slot.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import WanDuetError
from ..request.parse import parse
from ..video.output import sidecar
from .cluster_access import versions
from .retries import told_failure
from .travelling_files import PIECE_BYTES, ContentFolder, whole_sha256, with_paths
from .worker import LeaseLost, MadeFile, Task

__all__ = ["DRIVER_SILENT_S", "RaySlot"]

DRIVER_SILENT_S = 15.0  # a task ends when its driver has not been heard for so long


class RaySlot:
    """Made by Ray, with several threads: a slot that computes still answers `beat`.

    make_worker: returns the worker, and what decides its results beside the requests.
    contents:    folder of what has travelled to this machine.
    """

    def __init__(self, make_worker: Callable[[], tuple[Any, dict[str, Any]]], contents: str) -> None:
        self._worker, self._settings = make_worker()
        self._contents = ContentFolder(Path(contents))
        self._made = Path(tempfile.mkdtemp(prefix="wan-duet-slot-"))
        self._alone = threading.Lock()
        self._owner, self._heard_at = "", 0.0

    def describe(self) -> bytes:
        """Return JSON: what this slot is, so that a driver can compare."""
        about = {"settings": self._settings, "versions": versions()}
        where = {"host": socket.gethostname(), "pid": os.getpid(), "memory_bytes": self._worker.memory_bytes}
        return _json({**about, **where})

    def holds(self, sha256: str, name: str) -> bool:
        return self._contents.holds(sha256, name)

    def take(self, sha256: str, name: str, number: int, piece: bytes, last: bool) -> bytes:
        """Keep a piece of a file: see `ContentFolder.take`. Returns JSON with an `error`, or without."""
        try:
            self._contents.take(sha256, name, number, piece, last=last)
        except (WanDuetError, OSError, ValueError) as error:
            return _json({"error": str(error)})
        return _json({})

    def beat(self, owner: str) -> bytes:
        """Hear from the driver of a task. Returns JSON: whether the task of this owner is still the one."""
        if owner == self._owner:
            self._heard_at = time.monotonic()
        return _json({"owner": self._owner})

    def stop(self, owner: str) -> None:
        """Let the task of an owner end at its next step."""
        if owner == self._owner:
            self._owner = ""

    def make(self, owner: str, task: bytes) -> bytes:
        """Carry out a task, after the one that runs. owner: of this attempt alone.

        Returns JSON: the files that were made with size and sha256, or the cause of a failure.
        """
        with self._alone:
            self._owner, self._heard_at = owner, time.monotonic()
            try:
                return _json(self._answer(owner, json.loads(task)))
            finally:
                self._owner = ""

    def read(self, name: str, number: int) -> bytes:
        """Return a piece of a file that the last task made. number: from 0."""
        with (self._made / Path(name).name).open("rb") as stream:
            stream.seek(number * PIECE_BYTES)
            return stream.read(PIECE_BYTES)

    def _answer(self, owner: str, given: dict[str, Any]) -> dict[str, Any]:
        def beat() -> None:
            if self._owner != owner or time.monotonic() - self._heard_at > DRIVER_SILENT_S:
                raise LeaseLost

        shutil.rmtree(self._made, ignore_errors=True)
        self._made.mkdir(parents=True)
        try:
            request = parse(given["kind"], with_paths(given["request"], self._contents))
            made = self._worker.make(
                Task(request, self._made, given["name"], given["attempt"], given["smaller"], beat)
            )
        except LeaseLost:
            return {"stopped": True}
        except Exception as error:
            return told_failure(error)
        return _made(made)


def _made(made: MadeFile) -> dict[str, Any]:
    files = [
        {
            "name": file.name,
            "size": file.stat().st_size,
            "sha256": whole_sha256(file),
        }
        for file in (made.path, sidecar(made.path))
    ]
    return {"files": files, "frames_sha256": made.frames_sha256}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
