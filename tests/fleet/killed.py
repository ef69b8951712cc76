"""Forks a process for each line on stdin, which paints a batch and kills itself at its Nth step.

A step is whatever could be the last thing that a process does: a change of a file (Python's audit events), a
moment within a transaction of the journal (its clock), a call of the worker or the watcher.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batches import Painter, Watched, paint

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


@dataclass
class Steps:
    """Counts steps, and kills this process at one of them.

    window: count only steps of this name: "whole" (the file is complete, the row is not), "rename" (a file
            gets its place), "commit" (within a transaction); "" counts all.
    """

    die_at: int
    window: str = ""
    seen: int = 0
    lock: Any = field(default_factory=threading.RLock)

    def step(self, name: str = "") -> None:
        if self.window not in ("", name):
            return
        with self.lock:
            self.seen += 1
            if self.seen == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def now(self) -> float:
        self.step("commit")
        return time.time()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wa+")
        if writes or event in _CHANGES:
            self.step("rename" if event == "os.rename" else event)


def run(rows: Path, folder: Path, die_at: int, window: str = "", workers: int = 1) -> None:
    steps = Steps(die_at, window)
    sys.addaudithook(steps.audit)
    watched = Watched(at=steps.step)
    crew = [Painter(at=steps.step)]
    if workers > 1:
        crew = [Painter(at=steps.step, name=f"local-{number}", lease_s=60.0) for number in range(workers)]
    result = paint(rows, folder, crew, watched, now=steps.now)
    report = {**vars(result), "steps": steps.seen, "done_before": watched.done_before}
    folder.with_suffix(".report").write_text(json.dumps(report))


def main() -> None:
    for line in sys.stdin:
        given = json.loads(line)
        child = os.fork()
        if not child:
            try:
                run(Path(given.pop("rows")), Path(given.pop("folder")), **given)
            except BaseException as error:
                sys.stderr.write(f"{error!r}\n")
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
