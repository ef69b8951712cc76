"""Does a LoRA bench cost what its videos cost? CPU seconds of 24 cells in three ways.

    python bench/lora_bench.py [--rounds 2] [-o OUT]

bench:    `wan-duet lora bench`, with its sheet, grid and table.
runs:     the same 24 requests, one after another in one process that keeps its model.
commands: 24 calls of `wan-duet generate`.
Each way is measured from the start of its processes to their end, user and system time, on one thread; every
round turns the order around. `start` is what a process takes that only imports and reads the model. What OUT
has already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.fleet.lora_bench import LoraBench, bench_of
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.version import VERSION
from wan_duet.pipelines.weights.lora.find import LoraSources

PROMPTS = ("a red ball moving left on a white background", "a blue star moving up on a black background")
EXPERTS, SEEDS, LORA = ("high", "low", "both"), 3, "toy/outlined"
VALUES = {"aspect_ratio": "1:1", "interpolator_model": "none"}
COMMAND = [sys.executable, "-m", "wan_duet"]


def cells() -> LoraBench:
    """Return the bench: without a LoRA and on each choice of experts, two prompts, three seeds."""
    return bench_of(
        [LORA], [1.0], EXPERTS, kind="text-to-video", values=VALUES, prompts=PROMPTS, seeds=range(SEEDS)
    )


def runs(folder: Path, count: int) -> None:
    """Run the first `count` requests in this process."""
    memory, sources = DeviceMemory("cpu", keeps=True), LoraSources(embedded=embedded_loras())
    worker = LocalWorker(load_model("toy"), memory, Silent(), silent, sources, Interpolators())
    for cell in cells().cells[:count]:
        worker.run(cell.row.request, folder / f"{cell.name}.mp4")


def bench_way(folder: Path) -> None:
    (folder / "request.json").write_text(json.dumps(VALUES), encoding="utf-8")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    given = ["--request", folder / "request.json", "--prompts", folder / "prompts.txt"]
    varied = ["--experts", ",".join(EXPERTS), "--seeds", str(SEEDS), "-o", folder / "made"]
    called(*COMMAND, "lora", "bench", LORA, "--model", "toy", "--device", "cpu", *given, *varied)


def runs_way(folder: Path, count: int = 24) -> None:
    called(sys.executable, __file__, "--runs", str(count), "-o", folder)


def commands_way(folder: Path) -> None:
    for cell in cells().cells:
        file, kind = folder / f"{cell.name}.request.json", cell.row.request.kind
        file.write_text(json.dumps(cell.row.request.document()), encoding="utf-8")
        out = ["--kind", kind, "--model", "toy", "--device", "cpu", "-o", folder / f"{cell.name}.mp4"]
        called(*COMMAND, "generate", file, *out)


def called(*command: str | Path) -> None:
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env=one_thread)


def cpu_seconds(way: Callable[[Path], None]) -> float:
    """Return the user and system time of the processes that a way of making the videos starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        way(Path(folder))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


WAYS: Mapping[str, Callable[[Path], None]] = {
    "start": lambda folder: runs_way(folder, 0),
    "bench": bench_way,
    "runs": runs_way,
    "commands": commands_way,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, help="run so many requests in this process, and write no results")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench/results/lora-bench.json"))
    options = parser.parse_args()
    if options.runs is not None:
        runs(options.output, options.runs)
        return
    out: Path = options.output
    known = json.loads(out.read_text(encoding="utf-8"))["cpu_seconds"] if out.is_file() else {}
    measured: dict[str, list[float]] = {name: known.get(name, []) for name in WAYS}
    for turn in range(options.rounds):
        for name in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
            if len(measured[name]) <= turn:
                measured[name].append(round(cpu_seconds(WAYS[name]), 2))
                print(name, measured[name][-1], flush=True)
                out.write_text(json.dumps(answer(measured), indent=2) + "\n", encoding="utf-8")


def answer(measured: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the results, with the quotients of the medians once every way has been measured."""
    found = {"version": VERSION, "cells": len(cells().cells), "cpu_seconds": measured}
    if not all(measured.values()):
        return found
    median = {name: statistics.median(values) for name, values in measured.items()}
    quotients = {
        "bench_to_runs": median["bench"] / median["runs"],
        "bench_to_runs_without_start": median["bench"] / (median["runs"] - median["start"]),
        "bench_to_commands": median["bench"] / median["commands"],
    }
    return {**found, **{name: round(value, 3) for name, value in quotients.items()}}


if __name__ == "__main__":
    main()
