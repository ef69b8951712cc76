"""A long speech takes no more memory than a short one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "speech_memory.py"
CLIP_BYTES = 76 * 128 * 64 * 3 * 4  # of the frames of one clip, as float32


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's own count of peaks")
def test_five_clips_take_what_two_take() -> None:
    # What the allocator keeps for later is not what the run holds.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, str(BENCH), "--clips", "2", "5"],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert peaks["5"] <= 1.1 * peaks["2"]
    assert peaks["2"] > CLIP_BYTES, "nothing was measured"
