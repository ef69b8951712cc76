"""A service of painted pictures as a process of its own: `killed_service.py FOLDER`, until it is killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fleet.batches import Painter
from service.painted import KIND

from wan_duet.pipelines.fleet.worker import MadeFile, Task
from wan_duet.pipelines.plan.families import default_family
from wan_duet.pipelines.service.lane import LaneProgress
from wan_duet.pipelines.service.serve import ServiceSettings, serve


class Slowly(Painter):
    def make(self, task: Task) -> MadeFile:
        time.sleep(0.05)
        return super().make(task)


def main() -> None:
    folder = Path(sys.argv[1])
    settings = ServiceSettings(
        folder / "out", folder / "keys", "toy", default_family(KIND), KIND, port=0, most_waiting=1000
    )
    serve(settings, [(Slowly(), LaneProgress())], lambda url: print(url, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
