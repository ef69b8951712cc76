"""What the run of the tests says about the ComfyUI it was told to use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .conftest import HERE, LONGEST, longest_first

ROOT = HERE.parent


def test_a_wrong_comfyui_path_ends_the_run_in_one_line_before_any_test_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "1", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/host/core/test_process.py"],
        cwd=ROOT,
        env={**os.environ, "COMFYUI_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "INTERNALERROR" in done.stdout) == (pytest.ExitCode.USAGE_ERROR, False)
    assert "no tests ran" in done.stdout
    says = f"ERROR: $COMFYUI_PATH: {tmp_path} is not a ComfyUI folder (no main.py beside a folder comfy)."
    assert done.stderr.strip() == says


def test_the_longest_files_exist_and_begin() -> None:
    longest = [HERE / file for file in LONGEST]
    assert all(file.is_file() for file in longest)
    others = [HERE / "request" / "test_shots.py", HERE / "request" / "test_check.py"]
    items: list[Any] = [SimpleNamespace(path=path) for path in (*others, *reversed(longest))]
    longest_first(items)
    assert [item.path for item in items] == [*longest, *others]
