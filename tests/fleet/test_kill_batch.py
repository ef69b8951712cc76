"""A batch is killed anywhere: the next run makes what is missing, nothing twice, and leaves nothing half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_duet.pipelines.request import parse

from .batches import manifest, picture, visible, write_rows

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 and fork are POSIX")
HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
KILLS = 24  # spread over all steps of the batch


@dataclass
class Runner:
    """The process that forks. rows: the batch of every test here."""

    process: subprocess.Popen[str]
    rows: Path

    def run(self, folder: Path, die_at: int = 0, window: str = "", workers: int = 1) -> int:
        given = {"rows": str(self.rows), "folder": str(folder), "die_at": die_at}
        given |= {"window": window, "workers": workers}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(given)}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def report(self, folder: Path) -> dict[str, Any]:
        """What a process that nobody killed has to say."""
        assert self.run(folder) == 0
        answer: dict[str, Any] = json.loads(folder.with_suffix(".report").read_text())
        return answer


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    rows = write_rows(
        tmp_path_factory.mktemp("rows") / "rows.jsonl",
        {"prompt": "a", "seed": 1},
        {"prompt": "b", "seed": 2, "id": "named"},
        {"prompt": "c", "seed": 3, "local": {"count": 2}},
    )
    paths = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, str(HERE / "killed.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
    )
    with process:
        yield Runner(process, rows)
        assert process.stdin is not None
        process.stdin.close()


WANTED = {"00001": ("a", 1), "named": ("b", 2), "00003": ("c", 3), "00004": ("c", 4)}


def content(name: str) -> bytes:
    prompt, seed = WANTED[name]
    return picture(parse("text-to-video", {"prompt": prompt, "seed": seed}))


def assert_nothing_is_half(folder: Path) -> None:
    """A picture is whole, and has its receipt."""
    for file in folder.glob("*.png"):
        assert file.read_bytes() == content(file.stem)
        assert json.loads(file.with_suffix(".json").read_text())["request"]["seed"] == WANTED[file.stem][1]


@pytest.fixture(scope="module")
def steps(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> int:
    report = runner.report(tmp_path_factory.mktemp("alone") / "out")
    assert (report["done"], report["failed"], report["waiting"]) == (4, 0, 0)
    return int(report["steps"])


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_batch_goes_on(runner: Runner, steps: int, tmp_path: Path, kill: int) -> None:
    folder = tmp_path / "out"
    die_at = 1 + kill * (steps - 1) // (KILLS - 1)
    assert runner.run(folder, die_at) == -signal.SIGKILL
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*.png")}
    assert_nothing_is_half(folder)
    report = runner.report(folder)
    assert (report["done"], report["failed"], report["waiting"]) == (4, 0, 0)
    assert report["done_before"] >= len(before)
    assert all(file.stat().st_mtime_ns == time for file, time in before.items()), "made twice"
    assert_nothing_is_half(folder)
    assert visible(folder) == {f"{name}{suffix}" for name in WANTED for suffix in (".png", ".json")}
    lines = manifest(folder)
    assert sorted(line["id"] for line in lines) == sorted(WANTED)
    assert {line["id"]: line["seed"] for line in lines} == {name: seed for name, (_, seed) in WANTED.items()}
    assert not (folder / ".unfinished").exists()


def test_a_batch_that_is_killed_again_and_again_ends(runner: Runner, tmp_path: Path) -> None:
    folder, kills = tmp_path / "out", 0
    for die_at in range(30, 200, 5):
        if runner.run(folder, die_at) == 0:
            break
        kills += 1
        assert_nothing_is_half(folder)
    assert kills >= 2
    assert len(manifest(folder)) == len(WANTED)


_KILL = st.tuples(st.sampled_from(["whole", "rename", "commit"]), st.integers(1, 12), st.sampled_from([1, 2]))


@settings(max_examples=8, deadline=None)
@given(kills=st.lists(_KILL, min_size=1, max_size=4))
def test_any_order_of_kills_in_the_named_windows(
    runner: Runner, tmp_path_factory: pytest.TempPathFactory, kills: list[tuple[str, int, int]]
) -> None:
    """Complete but not yet a row, during a rename, during a commit; with one worker or two."""
    folder = tmp_path_factory.mktemp("kills") / "out"
    seen: dict[Path, int] = {}
    for window, die_at, workers in kills:
        assert runner.run(folder, die_at, window, workers) in (0, -signal.SIGKILL)
        assert_nothing_is_half(folder)
        assert all(file.stat().st_mtime_ns == time for file, time in seen.items()), "made twice"
        # A receipt gets its place before its picture, so both are only sure when the row is done.
        done = (
            [Path(line["file"]) for line in manifest(folder)] if (folder / "results.jsonl").exists() else []
        )
        seen = {folder / name: (folder / name).stat().st_mtime_ns for name in done}
    assert runner.report(folder)["done"] == 4
    assert sorted(line["id"] for line in manifest(folder)) == sorted(WANTED)
    assert visible(folder) == {f"{name}{suffix}" for name in WANTED for suffix in (".png", ".json")}
    assert not (folder / ".unfinished").exists()
