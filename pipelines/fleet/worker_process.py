"""What runs in the process of a worker: makes one row after another until its batch ends.

Messages are JSON, one object each. It sends a beat every second for as long as the system lets it run, so one
that is stopped or dead is silent. It ends with the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..request.parse import parse
from .retries import told_failure
from .worker import LeaseLost, Task, Worker

__all__ = ["BEAT_S", "serve"]

BEAT_S = 1.0
_END_S = 10.0  # how long a row may take to stop


def serve(connection: Connection, make_worker: Callable[[], Worker]) -> None:
    """Carry out tasks until the other end of `connection` is closed or says so.

    make_worker: called once, before the first task; what it loads stays loaded.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the batch decides
    tasks: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
    stop, sending = threading.Event(), threading.Lock()

    def send(**message: Any) -> None:
        with sending:
            connection.send_bytes(json.dumps(message).encode())

    threading.Thread(target=_read, args=(connection, tasks, stop), daemon=True).start()
    threading.Thread(target=_beat, args=(send,), daemon=True).start()
    worker = make_worker()
    send(ready=True)
    while (given := tasks.get()) is not None:
        send(**_answer(worker, given, stop))


def _answer(worker: Worker, given: Mapping[str, Any], stop: threading.Event) -> dict[str, Any]:
    def beat() -> None:
        if stop.is_set():
            raise LeaseLost

    try:
        made = worker.make(
            Task(
                request=parse(given["kind"], given["request"]),
                folder=Path(given["folder"]),
                name=given["name"],
                attempt=given["attempt"],
                smaller=given["smaller"],
                beat=beat,
            )
        )
    except LeaseLost:
        return {"stopped": True}
    except Exception as error:
        return told_failure(error)
    return {"made": str(made.path), "frames_sha256": made.frames_sha256}


def _read(
    connection: Connection, tasks: queue.SimpleQueue[Mapping[str, Any] | None], stop: threading.Event
) -> None:
    """Hand tasks to the main thread, until the end of the batch; then end, also amid a row."""
    try:
        while True:
            message = json.loads(connection.recv_bytes())
            if message.get("end"):
                break
            if message.get("stop"):
                stop.set()
            else:
                stop.clear()
                tasks.put(message)
    except (EOFError, OSError):  # the process that started this one has ended
        pass
    stop.set()
    tasks.put(None)
    threading.Event().wait(_END_S)
    os._exit(1)


def _beat(send: Callable[..., None]) -> None:
    while True:
        try:
            send(beat=True)
        except OSError:
            return  # `_read` ends this process
        threading.Event().wait(BEAT_S)
