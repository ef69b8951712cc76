"""What the processes of `test_process_worker` paint with. Imports nothing of pytest: they start quicker."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from wan_duet.pipelines.errors import WorkerLostError
from wan_duet.pipelines.fleet.worker import MadeFile, Task

from .batches import Painter


@dataclass
class SlowPainter(Painter):
    """Writes its process id beside the picture, and waits as long as the file `wait` is there."""

    wait: Path | None = None

    def make(self, task: Task) -> MadeFile:
        prompt = task.request.payload()["prompt"]
        if "memory" in prompt:
            raise MemoryError("the device is full")
        if "lost" in prompt:
            raise WorkerLostError("the head is gone")
        if "fault" in prompt:
            raise ZeroDivisionError("a fault of ours")
        if self.wait is not None:
            self.wait.with_name(f"{task.name}.pid").write_text(str(os.getpid()))
            while self.wait.exists():
                task.beat()
                time.sleep(0.02)
        return super().make(task)


def no_painter() -> SlowPainter:
    """A worker that cannot join what it works on."""
    raise WorkerLostError("the head is gone")
