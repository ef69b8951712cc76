"""What the run of the tests says about the ComfyUI it was told to use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
