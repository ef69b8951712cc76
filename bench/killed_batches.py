"""Kills workers, machines and drivers of a batch, and counts what is there at the end. Prints JSON.

    python bench/killed_batches.py [--nodes 2] [--workers 2] [--rows 500] [--kills 30] [--seed N]
                                   [--minutes 25] [-o OUT]

Rows are requests of the embedded model with 4 steps and 17 frames, of --distinct kinds. --nodes machines with
--workers each are real Ray nodes on loopback addresses; with --nodes 0 the workers are processes of the
driver. A driver is a process of `wan-duet batch run`. What is killed with signal 9:

    whole    the driver, when a file is complete, and the journal does not know it yet
    rename   the driver, when a file is about to get its place
    commit   the driver, when a transaction of the journal is about to be written
    driver   the driver, at any time
    worker   a process that makes rows
    node     a machine that is not the head, with all of its processes; another one takes its place
    head     the machine where Ray's head is; then all machines start anew at the same address

A sixth of the kills each is a worker, a node, a head and a driver; a third is in a named window. Their order
and their times come from a seed, which is printed. Exit code 1 unless every row has one file, one receipt,
and the frames it has alone.
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from ray_machines import RayMachines

from wan_duet.pipelines.cli import main as wan_duet
from wan_duet.pipelines.fleet import row_journal
from wan_duet.pipelines.remote import journal_file

WINDOWS = ("whole", "rename", "commit")
_FIRST_ROW_S = 240.0  # until a driver has a row that runs, on a busy machine
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
    parser.add_argument("--nodes", type=int, default=2, help="Ray nodes; 0 for processes of the driver")
    parser.add_argument("--workers", type=int, default=2, help="of each node, or of the driver")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--drive", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        return drive(*options.drive)
    print(f"seed {options.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, Path(folder))
    text = json.dumps(found, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")
    return 0 if found["passed"] else 1


def drive(rows: str, out: str, window: str, at: str, *flags: str) -> int:
    """Run the batch, and die in a window: the `at`th time that it is passed. Never with the window "-"."""
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
    return wan_duet(["batch", "run", rows, "-o", out, "--model", "toy", "--keep-going", *flags])


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the batch to its end through all kills, and count."""
    chance = random.Random(options.seed)  # noqa: S311 - it picks what to kill
    rows, out = folder / "rows.jsonl", folder / "out"
    rows.write_text(
        "".join(json.dumps(request(row % options.distinct)) + "\n" for row in range(options.rows))
    )
    alone = frames_alone(options.distinct, folder)
    machines = RayMachines(options.nodes, options.workers, folder)
    try:
        if options.nodes:
            machines.start()
        run = KilledRun(rows, out, machines, options, chance)
        run.work(planned(options, chance), time.monotonic() + 60 * options.minutes)
    finally:
        machines.stop()
    return counted(options, out, alone, run)


def planned(options: argparse.Namespace, chance: random.Random) -> list[str]:
    """Return what is killed, in order."""
    kinds = ["worker", "node", "head", "driver"] if options.nodes else ["worker", "driver"]
    sure = kinds * (options.kills // 6)
    plan = sure + [chance.choice(WINDOWS) for _ in range(options.kills - len(sure))]
    chance.shuffle(plan)
    return plan


@dataclass
class KilledRun:
    """A batch whose drivers and workers are killed. most_memory: of a driver, in bytes.

    drivers: exit codes of all processes that drove, in order.
    """

    rows: Path
    out: Path
    machines: RayMachines
    options: argparse.Namespace
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    drivers: list[int] = field(default_factory=list)
    most_memory: int = 0
    seconds: float = 0.0

    def work(self, plan: list[str], until: float) -> None:
        """Start one driver after another, until one ends by itself because every row is done."""
        began = time.monotonic()
        while time.monotonic() < until:
            window = next((what for what in plan if what in WINDOWS), "-")
            driver, killed = self._start(window), self.killed["driver"]
            while plan and plan[0] not in WINDOWS and self._makes_rows(driver):
                self._kill(plan.pop(0), driver)
            self._wait(driver, until)
            self.drivers.append(driver.returncode)
            by_window = driver.returncode == -signal.SIGKILL and self.killed["driver"] == killed
            if by_window and window in plan:
                plan.remove(window)
                self.killed[window] += 1
            self.seconds = round(time.monotonic() - began, 1)
            print(f"{self.seconds} s: {dict(self.killed)}, {len(plan)} to come", file=sys.stderr, flush=True)
            if driver.returncode == 0:  # every row is done
                return

    def _start(self, window: str) -> subprocess.Popen[bytes]:
        # A driver passes some windows once per row, and has to live until there are rows.
        at = self.chance.randint(1, max(2, self.options.rows // (self.options.kills + 1)))
        places = self.machines.joining if self.options.nodes else ["--workers", str(self.options.workers)]
        return started(self.rows, self.out, window, at, places, self.machines.environment)

    def _makes_rows(self, driver: subprocess.Popen[bytes]) -> bool:
        """Wait until a row runs, and a while more. Returns whether the driver still lives."""
        attempts, until = self.out / ".unfinished", time.monotonic() + _FIRST_ROW_S
        while driver.poll() is None and time.monotonic() < until:
            self._look(driver)
            if attempts.exists() and any(attempts.iterdir()):
                time.sleep(self.chance.uniform(0, 6))
                return driver.poll() is None
            time.sleep(0.2)
        return False

    def _kill(self, what: str, driver: subprocess.Popen[bytes]) -> None:
        if what == "driver":
            driver.kill()
        elif what == "node":
            self.machines.lose_node(self.chance)
        elif what == "head":
            self.machines.lose_head()
        elif not (self.machines.lose_worker(self.chance) if self.options.nodes else self._kill_child(driver)):
            return
        self.killed[what] += 1

    def _kill_child(self, driver: subprocess.Popen[bytes]) -> bool:
        with suppress(psutil.Error, IndexError):
            self.chance.choice(workers_of(driver)).kill()
            return True
        return False

    def _wait(self, driver: subprocess.Popen[bytes], until: float) -> None:
        """Wait for a driver; one that is still there when the time is over is ended, and says -15."""
        while driver.poll() is None:
            self._look(driver)
            if time.monotonic() > until:
                driver.terminate()
            time.sleep(0.5)

    def _look(self, driver: subprocess.Popen[bytes]) -> None:
        with suppress(psutil.Error):
            self.most_memory = max(self.most_memory, psutil.Process(driver.pid).memory_info().rss)


def request(seed: int) -> dict[str, Any]:
    return {**_REQUEST, "seed": seed}


def frames_alone(distinct: int, folder: Path) -> dict[int, str]:
    """Return {seed: hash of the frames} of each request, run one after another in a process without kills."""
    rows, out = folder / "alone.jsonl", folder / "alone"
    rows.write_text("".join(json.dumps(request(seed)) + "\n" for seed in range(distinct)))
    # One thread, as many as a worker has: the sums are rounded alike.
    started(rows, out, "-", 1, [], {**os.environ, "OMP_NUM_THREADS": "1"}).wait()
    return {row["seed"]: row["frames_sha256"] for row in results(out)}


def started(
    rows: Path, out: Path, window: str, at: int, places: list[str], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--drive", str(rows), str(out), window, str(at), *places]
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def workers_of(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    begun = psutil.Process(driver.pid).children()
    return [one for one in begun if any("spawn_main" in word for word in one.cmdline())]


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def counted(options: argparse.Namespace, out: Path, alone: dict[int, str], run: KilledRun) -> dict[str, Any]:
    rows = [row for row in results(out) if row["state"] == "done"]
    found = {
        "seed": options.seed,
        "rows": options.rows,
        "nodes": options.nodes,
        "workers_of_each": options.workers,
        "kills": dict(run.killed),
        "exit_codes_of_drivers": run.drivers,
        "seconds": run.seconds,
        "driver_peak_mib": round(run.most_memory / 2**20),
        "files": len(list(out.glob("*.mp4"))),
        "receipts": len(list(out.glob("*.json"))),
        "rows_done_once": len({row["id"] for row in rows}) if len(rows) == options.rows else -len(rows),
        "frames_as_alone": sum(row["frames_sha256"] == alone[row["seed"]] for row in rows),
        "left_unfinished": (out / ".unfinished").exists(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
    }
    counts = ("files", "receipts", "rows_done_once", "frames_as_alone")
    whole = all(found[name] == options.rows for name in counts)
    return {**found, "passed": whole and not found["left_unfinished"]}


if __name__ == "__main__":
    sys.exit(main())
