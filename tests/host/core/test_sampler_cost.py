"""What our sampler asks of a device beside ComfyUI's own two stages. Only the script measures its time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from wan_duet.pipelines.headless.host import Host

SCRIPT = Path(__file__).parents[3] / "bench" / "host_sampler.py"


def test_forwards_are_equal_and_neither_waits_nor_memory_are_more(comfyui: Host) -> None:
    places = {"COMFYUI_PATH": str(comfyui.path), "COMFYUI_PYTHON": str(comfyui.python)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--pairs", "1"],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["latents_apart"] <= 1e-6
    assert found["ours"]["forwards"] == found["core"]["forwards"] == found["steps"]
    assert found["ours"]["reads"] <= found["core"]["reads"]  # each waits for a graphics card
    assert found["ours"]["peak_bytes"] <= 1.01 * found["core"]["peak_bytes"]
