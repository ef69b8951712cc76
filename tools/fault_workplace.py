"""A copy of the checkout in which faults are made, and a warm process that runs its tests."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grimp
from fault_rules import Fault

__all__ = ["ROOT", "find", "set_up"]

ROOT = Path(__file__).resolve().parents[1]
WARM = ["pytest", "hypothesis", "httpx", "aiohttp", "pydantic", "av", "torch", "diffusers", "transformers"]
WARM += ["_hypothesis_pytestplugin", "anyio.pytest_plugin"]
SLOW_S = 60.0  # a test that takes longer may hang; the slowest takes a quarter of it
HANGS_S = 150.0  # one that takes longer by itself hangs, on a busy machine too
IMPORTS = "the imports of the tests"
LONG_S = 600.0  # imports and all tests of one fault together


def test_files(root: Path, file: str) -> tuple[list[str], list[str]]:
    """Those that import the file, and the others of its room."""
    room, _, _ = file.removeprefix("pipelines/").rpartition("/")
    name = "[.]".join(Path(file).with_suffix("").parts)
    package, _, module = name.rpartition("[.]")
    imports = re.compile(rf"{name}\b|from wan_duet[.]{package} import (\([^)]*|[^\n]*)\b{module}\b")
    folder = root / "tests" / room
    every = sorted((folder if folder.is_dir() else root / "tests").rglob("test_*.py"))
    usable = [one for one in every if not {"host", "golden", "embedded"} & set(one.relative_to(root).parts)]
    near = [one for one in usable if imports.search(one.read_text(encoding="utf-8"))]
    near.sort(key=lambda one: (Path(file).stem not in one.stem, one.stat().st_size))
    far = [one for one in usable if one not in near] if room and folder.is_dir() else []
    return [str(one.relative_to(root)) for one in near], [str(one.relative_to(root)) for one in far]


class Watch:
    """A pytest plugin that writes down which test runs, and which fails."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes.open("w", buffering=1)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._note(starts=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._note(failed=report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._note(failed=report.nodeid)

    def _note(self, **what: str) -> None:
        self.notes.write(json.dumps(what) + "\n")


def run_pytest(root: Path, notes: Path, tests: list[str], left_out: list[str]) -> None:
    """In a process of its own."""
    import pytest

    os.setsid()
    os.chdir(root)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
    options.append(f"--basetemp={notes.with_suffix('.tmp')}")
    options += [f"--deselect={test}" for test in left_out]
    os._exit(pytest.main([*options, *tests], plugins=[Watch(notes)]))


class Workplace:
    """One temporary copy of the checkout, in a process that has imported it.

    The tests run in forks of that process. A fork forgets the faulty module and all that import it.

    sound: whether a test passes without a fault.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.notes = folder / "wan_duet", folder / "notes"
        self._sound: dict[str, bool] = {}
        self._changes = 0
        listed = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in names:
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)
        sys.path.insert(0, str(folder))
        os.environ |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.dont_write_bytecode = False  # it is read again in every fork
        self._imports = grimp.build_graph("wan_duet", cache_dir=None)
        for name in [*WARM, *(name for name in self._imports.modules if "pipelines." in name)]:
            with contextlib.suppress(ImportError):  # what this machine has no packages for
                importlib.import_module(name)
        gc.freeze()  # pytest collects garbage at its end

    def first_that_fails(
        self, tests: list[str], changed: str | None = None, slow_s: float = SLOW_S
    ) -> str | None:
        """None when all pass, or take longer than LONG_S. A test that does not end is stopped; if it does not
        end when it is run again, it has failed.

        changed: the file that is not as it was imported.
        """
        self.notes.write_text("")
        left_out = [test for test, passes in self._sound.items() if not passes]
        if not (tests := [one for one in tests if one not in left_out]):
            return None
        process = os.fork()
        if process == 0:
            try:
                if changed is not None:
                    self._forget(changed)
                run_pytest(self.root, self.notes, tests, left_out)
            finally:
                os._exit(1)
        begin = since = time.monotonic()
        current, hangs, late = IMPORTS, False, False
        while not ((ended := os.waitpid(process, os.WNOHANG))[0] or hangs or late):
            time.sleep(0.05)
            started = [note["starts"] for note in self._read() if "starts" in note]
            if started and started[-1] != current:
                current, since = started[-1], time.monotonic()
            in_test_s = time.monotonic() - since if current != IMPORTS else 0.0
            late = time.monotonic() - begin > LONG_S
            hangs = in_test_s > slow_s or (late and current == IMPORTS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)  # with what the tests have started
        self._end_leftovers()
        exitcode = os.waitstatus_to_exitcode((ended if ended[0] else os.waitpid(process, 0))[1])
        shutil.rmtree(self.notes.with_suffix(".tmp"), ignore_errors=True)
        failed = next((note["failed"] for note in self._read() if "failed" in note), None)
        if failed is None and hangs and current != IMPORTS and slow_s < HANGS_S:
            again = ([current], tests)
            return next(filter(None, (self.first_that_fails(one, changed, HANGS_S) for one in again)), None)
        if failed is None and not hangs and exitcode in (1, 4):
            if "::" in tests[0]:
                return None  # a test of an earlier run that is gone
            raise RuntimeError(f"pytest does not run {' '.join(tests)}")
        crashed = not late and exitcode not in (0, 5)
        return failed or (current if hangs or crashed else None)

    def _forget(self, file: str) -> None:
        """The next import of the file's module, or of one that imports it, reads the file again."""
        module = ".".join(("wan_duet", *Path(file).with_suffix("").parts)).removesuffix(".__init__")
        for name in {module, *self._imports.find_downstream_modules(module)}:
            package, _, last = name.rpartition(".")
            if sys.modules.pop(name, None) is not None and hasattr(sys.modules.get(package), last):
                delattr(sys.modules[package], last)

    def _end_leftovers(self) -> None:
        """Of what the tests started in sessions of their own, as far as /proc shows it."""
        folder = str(self.notes.with_suffix(".tmp")).encode()
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if folder in command.read_bytes():
                    os.kill(int(command.parent.name), signal.SIGKILL)

    def _read(self) -> list[dict[str, str]]:
        lines = self.notes.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def find(self, fault: Fault, quick: bool, likely: str | None) -> str | None:
        """The test that finds the fault. likely: the one that is tried first."""
        near, far = test_files(self.root, fault.file)
        for tests in ([likely] if likely else [], near or far, [] if quick or not near else far):
            while tests and (test := self._failing(fault, tests)) is not None:
                if self._is_sound(test):
                    return test
        return None

    def _failing(self, fault: Fault, tests: list[str]) -> str | None:
        target = self.root / fault.file
        content, times = target.read_bytes(), target.stat()
        target.write_bytes(content[: fault.start] + fault.after.encode() + content[fault.end :])
        # Python knows by the time, in seconds, whether bytecode is of this source.
        self._changes += 1
        os.utime(target, (self._changes, self._changes))
        try:
            return self.first_that_fails(tests, fault.file)
        finally:
            target.write_bytes(content)
            os.utime(target, (times.st_atime, times.st_mtime))

    def _is_sound(self, test: str) -> bool:
        if test not in self._sound and test != IMPORTS:
            self._sound[test] = self.first_that_fails([test]) is None
        return self._sound.get(test, True)


WORKPLACE: list[Workplace] = []  # of this process


def set_up(folder: Path) -> None:
    WORKPLACE.append(Workplace(folder / str(os.getpid())))


def find(fault: Fault, quick: bool, likely: str | None) -> str | None:
    return WORKPLACE[0].find(fault, quick, likely)
