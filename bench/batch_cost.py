"""What a batch costs beside its videos, and how much two workers are worth. Prints JSON.

    python bench/batch_cost.py [--rows 2000] [--rounds 7] [--requests 20] [-o OUT]

overhead    CPU milliseconds of a row beside its work, in the process of the batch and with a worker in a
            process of its own, whose start counts. The work is a small file, so many rows run in seconds.
memory      of the process of the batch after a tenth of these rows and after all, in MiB.
throughput  the time of --requests warm requests of the embedded model with one worker by the time with two,
            one thread each, in rounds that alternate. A round in which a worker had less than 0.95 CPU
            seconds per second is discarded. --rounds 0 leaves it out: it needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.batch_rows import BatchRow
from wan_duet.pipelines.fleet.batch_run import run_batch
from wan_duet.pipelines.fleet.local_place import LocalPlace
from wan_duet.pipelines.fleet.process_worker import ProcessWorker
from wan_duet.pipelines.fleet.worker import MadeFile, Needs, Task, Worker
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.interpolation.interpolator_files import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import WanRequest, parse
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.video.output import write_sidecar
from wan_duet.pipelines.weights.lora.find import LoraSources

BUSY = 0.95
TOY = {"aspect_ratio": "1:1", "num_inference_steps": 4, "interpolator_model": "none"}


class Scribe:
    """A worker whose result is a small file."""

    place, name, lease_s, memory_bytes = "local", "local", None, None

    def check(self, _: WanRequest) -> Needs:
        return Needs(1.0)

    def make(self, task: Task) -> MadeFile:
        file = task.folder / f"{task.name}.png"
        file.write_bytes(b"made")
        write_sidecar(file, {"wan_duet": "0"})
        return MadeFile(file, None)

    def close(self) -> None:
        return


@dataclass
class Clock:
    """Notes at each end of a row the time, the CPU seconds of the workers, and the memory of this process."""

    workers: Sequence[Worker]
    seen: list[tuple[float, list[float]]] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)

    def resumed(self, *_: object) -> None:
        return

    def begun(self, *_: object) -> None:
        return

    def ended(self, _: object) -> None:
        self.rss_mib.append(psutil.Process().memory_info().rss / 2**20)
        pids = [worker.pid for worker in self.workers if isinstance(worker, ProcessWorker) and worker.pid]
        used = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]
        self.seen.append((time.perf_counter(), used))


def cpu_s() -> float:
    """Return the CPU seconds of this process and of those that it has waited for."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def rows_of(count: int, values: dict[str, Any]) -> list[BatchRow]:
    made = (parse("text-to-video", {"prompt": "a red ball", **values, "seed": seed}) for seed in range(count))
    return [BatchRow(line, None, request) for line, request in enumerate(made, 1)]


def batch(rows: Sequence[BatchRow], workers: Sequence[Worker]) -> Clock:
    clock = Clock(workers)
    with tempfile.TemporaryDirectory() as folder:
        run_batch(rows, BatchFolder(Path(folder)), list(workers), clock, settings={})
    return clock


def overhead(count: int) -> dict[str, Any]:
    rows, scribe = rows_of(count, {}), Scribe()
    with tempfile.TemporaryDirectory() as folder:
        begun = cpu_s()
        for row in rows:
            scribe.make(Task(row.request, Path(folder), str(row.line)))
        work = cpu_s() - begun
    found: dict[str, Any] = {"rows": count}
    for name, workers in (
        ("in_process", [scribe]),
        ("own_process", [ProcessWorker("local-1", scribe.check, Scribe)]),
    ):
        begun = cpu_s()
        clock = batch(rows, workers)
        found[f"{name}_ms"] = round(1000 * (cpu_s() - begun - work) / count, 2)
        found[f"{name}_mib"] = [round(clock.rss_mib[place], 1) for place in (count // 10, -1)]
    return found


def toy_place() -> LocalPlace:
    """Return the embedded model on one thread. Called in the process of a worker."""
    torch.set_num_threads(1)
    memory = DeviceMemory("cpu", keeps=True)
    worker = LocalWorker(load_model("toy"), memory, Silent(), silent, LoraSources(), Interpolators())
    return LocalPlace(worker)


def seconds(workers: int, requests: int) -> tuple[float, float]:
    """Return the seconds of so many warm requests, and CPU seconds per second of the least busy worker."""
    made = [ProcessWorker(f"local-{number}", Scribe().check, toy_place) for number in range(workers)]
    seen = batch(rows_of(2 * workers + requests, TOY), made).seen
    (begun, before), (ended, after) = seen[2 * workers - 1], seen[-1]
    took = ended - begun
    return took, min(now - then for now, then in zip(after, before, strict=True)) / took


def throughput(rounds: int, requests: int) -> dict[str, Any]:
    found = []
    for number in range(rounds):
        measured = {count: seconds(count, requests) for count in ((1, 2), (2, 1))[number % 2]}
        (alone, busy), (together, least) = measured[1], measured[2]
        found.append({"factor": round(alone / together, 3), "least_busy": round(min(busy, least), 3)})
        print(json.dumps(found[-1]), flush=True)
    counted = [row["factor"] for row in found if row["least_busy"] >= BUSY]
    median = round(statistics.median(counted), 3) if counted else None
    return {"factor": median, "goal": 1.8, "discarded": rounds - len(counted), "rounds": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "overhead": overhead(options.rows),
    }
    if options.rounds:
        found["throughput"] = throughput(options.rounds, options.requests)
    text = json.dumps(found, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
