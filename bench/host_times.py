"""Measure a run in ComfyUI: the first, another seed, another quality only, and the start of the pack.

    python bench/host_times.py [PATH_OF_A_COMFYUI] [-o OUT.json]

Prints seconds for the workflow *Text to Video (one request)* with the embedded model, as JSON: on the clock,
and of CPU in the process of ComfyUI, which other work on the machine disturbs less. `stages_s` is what the
receipt says. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from datetime import date
from pathlib import Path
from typing import Any

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host, examine, find_comfyui, without_our_python
from wan_duet.pipelines.headless.server import HeadlessComfyUI

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / "workflows" / "api" / "Text to Video (one request).json"
STARTS = 3
# Run by ComfyUI's Python in its folder: what ComfyUI has loaded by then does not count.
START = """
import asyncio, importlib.util, sys, time
from comfy.cli_args import args
args.cpu = True
import execution, nodes, server
root = sys.argv[1]
entry = root + "/__init__.py"
spec = importlib.util.spec_from_file_location("pack", entry, submodule_search_locations=[root])
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
clock, cpu = time.perf_counter(), time.process_time()
spec.loader.exec_module(pack)
for node in asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list()):
    node.GET_SCHEMA()
print(time.perf_counter() - clock, time.process_time() - cpu)
"""


def start_of_the_pack(host: Host) -> dict[str, float]:
    """Return the seconds that importing the pack and making its nodes take, the least of some starts."""
    measured, command = [], [str(host.python), "-c", START, str(ROOT)]
    environ = without_our_python(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the first start compiles, as at a user's
    for _ in range(STARTS):
        done = subprocess.run(
            command,
            cwd=host.path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        measured.append([float(word) for word in done.stdout.split()[-2:]])
    clock, cpu = (min(column) for column in zip(*measured, strict=True))
    return {"clock_s": round(clock, 3), "cpu_s": round(cpu, 3)}


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(host: HeadlessComfyUI, client: ComfyClient, graph: dict[str, Any]) -> dict[str, Any]:
    clock, cpu = time.perf_counter(), cpu_seconds(host.pid)
    receipt = json.loads(client.run(graph).outputs["receipt"]["text"][0])
    return {
        "clock_s": round(time.perf_counter() - clock, 2),
        "cpu_s": round(cpu_seconds(host.pid) - cpu, 2),
        "stages_s": receipt["timings_s"],
        "latents_reused": receipt.get("latents_reused", False),
    }


def measure(path: Path) -> dict[str, Any]:
    graph = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    (request,) = (item["inputs"] for item in graph.values() if item["class_type"] == "WanDuetTextToVideo")
    (runner,) = (name for name, item in graph.items() if item["class_type"] == "WanDuetRunLocal")
    graph["receipt"] = {"class_type": "PreviewAny", "inputs": {"source": [runner, 4]}}
    found = examine(path)
    result: dict[str, Any] = {"date": date.today().isoformat(), "cores": os.cpu_count()}
    result["load_before"] = round(os.getloadavg()[0], 1)
    result["start of the pack"] = start_of_the_pack(found)
    with HeadlessComfyUI(found, start_timeout_s=900) as host, ComfyClient(host.url) as client:
        for what, change in {
            "first run": {},
            "another seed": {"seed": request["seed"] + 1},
            "another quality": {"video_quality": "low"},
        }.items():
            request |= change
            result[what] = run(host, client, graph)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", nargs="?", type=Path, default=Path("~/ComfyUI"))
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    found = find_comfyui(given.comfyui.expanduser())
    if found is None:
        parser.error(f"no ComfyUI at {given.comfyui}")
    text = json.dumps(measure(found.path), indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
