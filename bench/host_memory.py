"""Memory of a running ComfyUI while it makes a video of one latent: streamed, and through an IMAGE.

    python bench/host_memory.py [--frames 97] [--size 320 176]

Prints JSON: the peak of the process above what it had before, in MiB, of the first and the second run. The
streamed way is Wan Duet Render Video; the other is Wan Duet Decode, then core's Create Video and Save Video.
Linux only, with a ComfyUI in ~/ComfyUI.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wan_duet.pipelines.headless.host import examine, find_comfyui
from wan_duet.pipelines.headless.server import HeadlessComfyUI

SETTINGS = {
    "frames_per_second": 16.0,
    "reverse": False,
    "interpolator": "none",
    "num_interpolated_frames": 0,
    "adjust_fps_for_interpolation": True,
    "video_quality": "high",
    "video_write_mode": "balanced",
    "container": "mp4",
    "save": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=97)
    parser.add_argument("--size", type=int, nargs=2, default=[320, 176], metavar=("W", "H"))
    given = parser.parse_args()
    host = find_comfyui(Path("~/ComfyUI").expanduser())
    if host is None:
        raise SystemExit("no ComfyUI at ~/ComfyUI")
    peaks: dict[str, list[float]] = {"streamed": [], "images": []}
    with HeadlessComfyUI(examine(host.path)) as comfyui:
        for run in range(2):
            for name, graph in graphs(given.frames, *given.size, run).items():
                Path(f"/proc/{comfyui.pid}/clear_refs").write_text("5")  # the peak so far is forgotten
                before = resident(comfyui.pid, "VmRSS")
                comfyui.run(graph)
                peaks[name].append(round((resident(comfyui.pid, "VmHWM") - before) / 1024, 1))
    print(json.dumps(peaks))


def graphs(frames: int, width: int, height: int, run: int) -> dict[str, Any]:
    """Different names per run, so that nothing comes from ComfyUI's cache but the model."""

    def node(kind: str, **inputs: object) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    start = {
        "model": node("WanDuetLoadModel", model="toy", precision="fp32"),
        "latent": node(
            "WanDuetEmptyLatent", model=["model", 0], width=width, height=height, num_frames=frames
        ),
    }
    ours = {"model": ["model", 0], "latent": ["latent", 0], "filename_prefix": f"ours {run}", **SETTINGS}
    return {
        "streamed": {
            **start,
            "video": node("WanDuetRenderVideo", **ours),
            "show": node("SaveVideo", video=["video", 0], filename_prefix="o", format="auto", codec="auto"),
        },
        "images": {
            **start,
            "images": node("WanDuetDecode", model=["model", 0], latent=["latent", 0]),
            "video": node("CreateVideo", images=["images", 0], fps=16.0 + run),
            "show": node("SaveVideo", video=["video", 0], filename_prefix="c", format="auto", codec="auto"),
        },
    }


def resident(pid: int, name: str) -> int:
    """In KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
