"""A clip four times as long takes no more memory, forwards, backwards or with a palette of all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "media_memory.py"
FRAME_BYTES = 320 * 176 * 3 * 4  # of one frame, as float32
EDITS = ("plain", "reverse", "gif")
SHORT, LONG = 97, 385  # both longer than x264's lookahead


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's own count of peaks")
def test_peak_memory_does_not_grow_with_the_number_of_frames() -> None:
    arguments = ["--source", "pictures", "--edits", *EDITS, "--frames", str(SHORT), str(LONG)]
    # What the allocator keeps for later is not what the pipeline holds.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, str(BENCH), *arguments], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    (peaks,) = json.loads(done.stdout)["peak_bytes"].values()
    for edit, peak in peaks.items():
        slope = (peak[str(LONG)] - peak[str(SHORT)]) / (LONG - SHORT)
        assert slope <= 0.1 * FRAME_BYTES, edit
        assert peak[str(SHORT)] > FRAME_BYTES, "nothing was measured"
