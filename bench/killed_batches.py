"""Kills workers and drivers of a batch again and again, and counts what is there at the end. Prints JSON.

    python bench/killed_batches.py [--rows 500] [--workers 4] [--kills 30] [--seed N] [--minutes 25] [-o OUT]

Rows are requests of the embedded model with 4 steps and 17 frames, of --distinct kinds. A driver is a process
of `wan-duet batch run`. It is killed with signal 9 by itself in a named window, at a random one of them:

    whole    a file is complete, and the journal does not know it yet
    rename   a file is about to get its place
    commit   a transaction of the journal is about to be written

A worker is a process that the driver started; it is killed after a random time. The seed is printed, so a run
can be repeated. Exit code 1 unless every row has one file, one receipt, and the frames it has alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from wan_duet.pipelines.cli import main as wan_duet
from wan_duet.pipelines.fleet import row_journal
from wan_duet.pipelines.remote import journal_file

WINDOWS = ("whole", "rename", "commit")
_REQUEST = {
    "prompt": "a red ball moving to the right",
    "num_frames": 17,
    "num_inference_steps": 4,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--distinct", type=int, default=10, help="different requests among the rows")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS, metavar="ROWS DIR WORKERS WINDOW AT")
    options = parser.parse_args()
    if options.drive:
        return drive(*options.drive)
    print(f"seed {options.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")
    return 0 if found["passed"] else 1


def drive(rows: str, out: str, workers: str, window: str, at: str) -> int:
    """Run the batch, and die in a window: the `at`th time that it is passed. Never with an empty window."""
    left = int(at)

    def passed(name: str) -> None:
        nonlocal left
        if name == window:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).startswith(out):
            passed("rename")
        elif event == "open" and "+" in str(arguments[1]) and str(arguments[0]).endswith(".mp4"):
            passed("whole")  # it is about to be synced

    @contextmanager
    def transaction(*arguments: Any) -> Iterator[None]:
        with journal_file.transaction(*arguments):
            yield
            passed("commit")

    sys.addaudithook(audit)
    row_journal.transaction = transaction
    command = ["batch", "run", rows, "-o", out, "--model", "toy", "--workers", workers, "--keep-going"]
    return wan_duet(command)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the batch to its end through all kills, and count."""
    chance = random.Random(options.seed)  # noqa: S311 - it picks what to kill
    rows, out = folder / "rows.jsonl", folder / "out"
    rows.write_text(
        "".join(json.dumps(request(row % options.distinct)) + "\n" for row in range(options.rows))
    )
    alone = frames_alone(options.distinct, folder)
    plan = [chance.choice([*WINDOWS, "worker"]) for _ in range(options.kills)]
    # A driver passes some windows once per row, and has to live until there are rows.
    most = max(2, options.rows // (options.kills + 1))
    began, killed = time.monotonic(), Counter[str]()
    while time.monotonic() - began < 60 * options.minutes:
        kinds: list[str] = []
        while plan and (not kinds or kinds[-1] == "worker"):
            kinds.append(plan.pop(0))  # workers die under the same driver, up to its own death
        window = kinds[-1] if kinds and kinds[-1] != "worker" else ""
        driver = start(rows, out, options.workers, window, chance.randint(1, most))
        for _ in range(kinds.count("worker")):
            killed["worker"] += kill_worker(driver, chance)
        if driver.wait() == -signal.SIGKILL:
            killed[window] += 1
        elif not plan:
            break
    return counted(options, out, alone, killed, time.monotonic() - began)


def request(seed: int) -> dict[str, Any]:
    return {**_REQUEST, "seed": seed}


def frames_alone(distinct: int, folder: Path) -> dict[int, str]:
    """Return {seed: hash of the frames} of each request, run one after another in a process without kills."""
    rows, out = folder / "alone.jsonl", folder / "alone"
    rows.write_text("".join(json.dumps(request(seed)) + "\n" for seed in range(distinct)))
    start(rows, out, 1, "", 1).wait()
    return {row["seed"]: row["frames_sha256"] for row in results(out)}


def start(rows: Path, out: Path, workers: int, window: str, at: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--drive", str(rows), str(out), str(workers), window, str(at)]
    one_thread = {"OMP_NUM_THREADS": "1"}  # as many as a worker has: the sums are rounded alike
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, **one_thread}, **quiet)


def kill_worker(driver: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kill one of the workers a while after the first was started. Returns whether there was one."""
    while not workers_of(driver):
        if driver.poll() is not None:
            return False
        time.sleep(0.2)
    time.sleep(chance.uniform(0, 10))
    try:
        chance.choice(workers_of(driver)).kill()
    except (psutil.Error, IndexError):
        return False
    return True


def workers_of(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        started = psutil.Process(driver.pid).children()
        return [one for one in started if any("spawn_main" in word for word in one.cmdline())]
    except psutil.Error:
        return []


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def counted(
    options: argparse.Namespace, out: Path, alone: dict[int, str], killed: Counter[str], seconds: float
) -> dict[str, Any]:
    rows = [row for row in results(out) if row["state"] == "done"]
    found = {
        "seed": options.seed,
        "rows": options.rows,
        "workers": options.workers,
        "kills": dict(killed),
        "seconds": round(seconds, 1),
        "files": len(list(out.glob("*.mp4"))),
        "receipts": len(list(out.glob("*.json"))),
        "rows_done_once": len({row["id"] for row in rows}) if len(rows) == options.rows else -len(rows),
        "frames_as_alone": sum(row["frames_sha256"] == alone[row["seed"]] for row in rows),
        "left_unfinished": (out / ".unfinished").exists(),
        "cores": os.cpu_count(),
    }
    counts = ("files", "receipts", "rows_done_once", "frames_as_alone")
    whole = all(found[name] == options.rows for name in counts)
    return {**found, "passed": whole and not found["left_unfinished"]}


if __name__ == "__main__":
    sys.exit(main())
