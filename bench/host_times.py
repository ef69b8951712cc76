"""Measure a run in ComfyUI: the first, another seed, another quality only, and the start of the pack.

    python bench/host_times.py [PATH_OF_A_COMFYUI]

Prints seconds for the workflow *Text to Video (one request)* with the embedded model.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import examine, find_comfyui
from wan_duet.pipelines.headless.server import HeadlessComfyUI

WORKFLOW = Path(__file__).parents[1] / "workflows" / "api" / "Text to Video (one request).json"
_IMPORT = re.compile(r"([\d.]+) seconds: .*wan-duet")


def seconds(client: ComfyClient, graph: dict[str, Any]) -> float:
    started = time.perf_counter()
    client.run(graph)
    return time.perf_counter() - started


def main(path: str) -> None:
    graph = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    (request,) = (item["inputs"] for item in graph.values() if item["class_type"] == "WanDuetTextToVideo")
    found = find_comfyui(Path(path).expanduser())
    if found is None:
        sys.exit(f"no ComfyUI at {path}")
    with HeadlessComfyUI(examine(found.path), start_timeout_s=900) as host, ComfyClient(host.url) as client:
        loaded = _IMPORT.search(host.log())
        print(f"start of the pack: {loaded[1] if loaded else 'not told'} s")
        for what, change in {
            "first run": {},
            "another seed": {"seed": request["seed"] + 1},
            "another quality": {"video_quality": "low"},
        }.items():
            request |= change
            print(f"{what}: {seconds(client, graph):.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["~/ComfyUI"])
