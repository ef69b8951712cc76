"""Make small faults where tests see least, and name the test that finds each of them.

    python tools/faults.py [--only WORD ...] [--list] [--quick] [--json OUT]

The checkout stays as it is: each fault is made in a temporary copy of it. Needs a system that can fork.

Where: in `pipelines/`, the statements that name a device, time, room or a further attempt (the words in
       fault_rules.py, looked up by the parts of an identifier, so that the unit in `total_s` means time),
       what stands under such an `if`, and an `if` under which something waits.
What:  a comparison is turned; a condition that is none gets a `not`; a number is multiplied and divided by
       12; a statement that only waits is removed; choices change their order; a class or word that an
       `except`, an `isinstance`, an `in` or an `any` names is dropped. BY_HAND adds what no rule makes.
Tests: those of the file's room; of a file beside the rooms, those that import it. First come the tests that
       run the faulty function, the most particular ones at the beginning, then the others of the room.
       A test that hangs has found the fault.

harmless_faults.json lists faults that change nothing a test could see, with the reason. The exit code is 0
when tests find at least 95 % of the faults and every other one is listed there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from fault_rules import Fault, all_faults

ROOT = Path(__file__).resolve().parents[1]
HARMLESS = Path(__file__).with_name("harmless_faults.json")
WARM = ["pytest", "hypothesis", "httpx", "aiohttp", "pydantic", "av", "torch", "diffusers", "transformers"]
SLOW_S = 20.0  # beyond ten times what a test takes without a fault: then it hangs
CONTEXT = multiprocessing.get_context("forkserver")


def test_files(root: Path, file: str) -> list[str]:
    """Those of a room lie in the folder of its name; a file beside the rooms has those that import it."""
    room, _, _ = file.removeprefix("pipelines/").rpartition("/")
    if room and (root / "tests" / room).is_dir():
        return sorted(str(one.relative_to(root)) for one in (root / "tests" / room).rglob("test_*.py"))
    name = "[.]".join(Path(file).with_suffix("").parts)
    package, _, module = name.rpartition("[.]")
    imports = re.compile(rf"{name}\b|from wan_duet[.]{package} import [^\n]*\b{module}\b")
    every = sorted((root / "tests").rglob("test_*.py"))
    return [
        str(one.relative_to(root))
        for one in every
        if not {"host", "golden", "toy"} & set(one.parts) and imports.search(one.read_text(encoding="utf-8"))
    ]


class Watch:
    """A pytest plugin: runs the wanted tests in their order, and writes down what happens, line by line."""

    def __init__(self, notes: Path, wanted: list[str] | None, root: Path) -> None:
        self.notes, self.wanted, self.root = notes.open("w", buffering=1), wanted, f"{root}{os.sep}"
        self.ran: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.wanted is not None:
            place = {name: index for index, name in enumerate(self.wanted)}
            items[:] = sorted(
                (item for item in items if item.nodeid in place), key=lambda one: place[one.nodeid]
            )

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._note(starts=nodeid)
        self.ran.clear()
        if self.wanted is None:
            threading.settrace(self._call)
            sys.settrace(self._call)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._note(test=report.nodeid, failed=report.failed, seconds=report.duration)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._note(test=report.nodeid, failed=True, seconds=0.0)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        self._note(test=nodeid, ran=sorted(self.ran))

    def _call(self, frame: Any, _event: str, _value: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(self.root) and "/pipelines/" in code.co_filename:
            self.ran.add(f"{code.co_filename[len(self.root) :]}:{code.co_firstlineno}")

    def _note(self, **what: Any) -> None:
        self.notes.write(json.dumps(what) + "\n")


def run_pytest(root: str, notes: str, wanted: list[str] | None, files: list[str]) -> None:
    """In a process of its own, with `root` as the package."""
    import pytest

    os.setsid()
    os.chdir(root)
    sys.path.insert(0, str(Path(root).parent))
    os.environ |= {
        "PYTHONPATH": str(Path(root).parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    sys.dont_write_bytecode = True
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    stop = ["-x", "--hypothesis-seed=0"] if wanted is not None else []
    watch = Watch(Path(notes), wanted, Path(root))
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        f"--basetemp={Path(notes).with_suffix('.tmp')}",
    ]
    os._exit(pytest.main([*options, *stop, *files], plugins=[watch]))


class Workplace:
    """One temporary copy of the checkout, for one process at a time."""

    def __init__(self, folder: Path) -> None:
        self.root, self.notes = folder / "wan_duet", folder / "notes"
        listed = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in names:
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)

    def run(
        self, files: list[str], wanted: list[str] | None, limits: dict[str, float]
    ) -> list[dict[str, Any]]:
        """What was written down. A test without an end is stopped, and is the last one."""
        process = CONTEXT.Process(target=run_pytest, args=(str(self.root), str(self.notes), wanted, files))
        self.notes.write_text("")
        process.start()
        current, since = "", time.monotonic()
        while process.is_alive():
            process.join(0.1)
            started = [note["starts"] for note in self._read() if "starts" in note]
            if started and started[-1] != current:
                current, since = started[-1], time.monotonic()
            if wanted is not None and time.monotonic() - since > 10 * limits.get(current, 6.0) + SLOW_S:
                break
        hangs = process.is_alive()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # and what the tests have started
        process.join()
        shutil.rmtree(self.notes.with_suffix(".tmp"), ignore_errors=True)
        return [
            *self._read(),
            *(
                [{"test": current or "the imports of the tests", "failed": True, "seconds": 0.0}]
                if hangs
                else []
            ),
        ]

    def _read(self) -> list[dict[str, Any]]:
        lines = self.notes.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]


@dataclass(frozen=True)
class Traced:
    """Of one test without a fault: how long it takes, and which functions of the package it runs."""

    file: str
    seconds: float
    ran: frozenset[tuple[str, int]]


def trace(workplace: Workplace, file: str, cache: Path) -> dict[str, Traced]:
    """The tests of a file that pass."""
    content = b"".join(one.read_bytes() for one in sorted((workplace.root / "pipelines").rglob("*.py")))
    content += b"".join(one.read_bytes() for one in sorted((workplace.root / file).parent.glob("*.py")))
    kept = cache / f"{hashlib.sha256(content + file.encode()).hexdigest()[:20]}.json"
    if not kept.exists():
        kept.write_text(json.dumps(workplace.run([file], None, {})), encoding="utf-8")
    seconds: dict[str, float] = {}
    ran: dict[str, frozenset[tuple[str, int]]] = {}
    failed = set()
    for note in json.loads(kept.read_text(encoding="utf-8")):
        if "seconds" in note:
            seconds[note["test"]] = seconds.get(note["test"], 0.0) + note["seconds"]
            failed |= {note["test"]} if note["failed"] else set()
        elif "ran" in note:
            places = (place.rpartition(":") for place in note["ran"])
            ran[note["test"]] = frozenset((place, int(line)) for place, _, line in places)
    return {
        name: Traced(file, seconds[name], ran[name]) for name in ran if name in seconds and name not in failed
    }


def find(workplace: Workplace, fault: Fault, tests: dict[str, Traced], quick: bool) -> str | None:
    """The test that fails or hangs with the fault, None where all pass."""
    target = workplace.root / fault.file
    content = target.read_bytes()
    limits = {name: test.seconds for name, test in tests.items()}
    near = [name for name, test in tests.items() if _runs(test, fault)]
    near.sort(key=lambda name: (tests[name].seconds > 1, len(tests[name].ran)))
    far = [name for name in tests if name not in set(near)]
    target.write_bytes(content[: fault.start] + fault.after.encode() + content[fault.end :])
    try:
        for wanted in (near,) if quick else (near, far):
            files = sorted({tests[name].file for name in wanted})
            notes = workplace.run(files, wanted, limits) if wanted else []
            if failed := next((note["test"] for note in notes if note.get("failed")), None):
                return str(failed)
    finally:
        target.write_bytes(content)
    return None


def _runs(test: Traced, fault: Fault) -> bool:
    return any(
        file == ran and first <= line <= last for ran, line in test.ran for file, first, last in fault.lines
    )


# ---- the report


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="faults whose line of the list has one of these"
    )
    parser.add_argument("--list", action="store_true", help="name the faults, and make none")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the verdicts into a file too")
    parser.add_argument("--quick", action="store_true", help="only tests that run the faulty function")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--work", type=Path, help="a folder that keeps which test runs what for the next call"
    )
    options = parser.parse_args(argv)
    faults = [
        fault
        for fault in all_faults(ROOT)
        if options.only is None or any(word in str(fault) for word in options.only)
    ]
    if options.list:
        print(*faults, f"{len(faults)} faults", sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="wan-duet-faults-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        verdicts = list(judge(faults, Path(temporary), work, options))
    if options.json is not None:
        options.json.write_text(json.dumps(verdicts, indent=1) + "\n", encoding="utf-8")
    return report(verdicts)


def judge(
    faults: list[Fault], temporary: Path, work: Path, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    CONTEXT.set_forkserver_preload(WARM)
    idle: SimpleQueue[Workplace] = SimpleQueue()
    for number in range(options.processes):
        idle.put(Workplace(temporary / str(number)))

    def at_work(job: Callable[..., Any], *arguments: Any) -> Any:
        workplace = idle.get()
        try:
            return job(workplace, *arguments)
        finally:
            idle.put(workplace)

    rooms = {fault.file: test_files(ROOT, fault.file) for fault in faults}
    files = sorted({file for room in rooms.values() for file in room})
    with ThreadPoolExecutor(options.processes) as pool:
        traced = dict(zip(files, pool.map(lambda file: at_work(trace, file, work), files), strict=True))
        tests = [
            {name: test for file in rooms[fault.file] for name, test in traced[file].items()}
            for fault in faults
        ]
        begin = time.monotonic()
        for fault, test in zip(
            faults, pool.map(lambda *job: at_work(find, *job, options.quick), faults, tests), strict=True
        ):
            print(f"{time.monotonic() - begin:6.0f} s  {fault}\n          {test or 'SURVIVED'}", flush=True)
            yield {
                "fault": fault.text,
                "file": fault.file,
                "line": fault.line,
                "what": fault.what,
                "test": test,
            }


def report(verdicts: list[dict[str, Any]]) -> int:
    harmless = {entry["fault"]: entry["why"] for entry in json.loads(HARMLESS.read_text(encoding="utf-8"))}
    survived = [verdict for verdict in verdicts if verdict["test"] is None]
    open_ones = [verdict for verdict in survived if verdict["fault"] not in harmless]
    found = len(verdicts) - len(survived)
    print(f"\n{found} of {len(verdicts)} faults found by a named test ({found / max(1, len(verdicts)):.1%})")
    for verdict in survived:
        why = harmless.get(verdict["fault"], "UNEXPLAINED")
        print(f"{verdict['file']}:{verdict['line']} {verdict['fault']}\n    {why}")
    return int(bool(open_ones) or found < 0.95 * len(verdicts))


if __name__ == "__main__":
    sys.exit(main())
