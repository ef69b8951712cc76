"""Memory of a ComfyUI that makes a video of one latent: by Wan Duet Render Video, and by core's own nodes.

    python bench/host_memory.py [--frames 49 201] [--sizes 320x176 640x352] [--between 0 1 4] [-o OUT.json]

--between: how many frames RIFE draws between each two; 0 is decoding and encoding alone. Core's way is VAE
Decode, Run Frame Interpolation Model, Create Video, Save Video. Both ways read the same
latent, and a VAE and a RIFE that are so narrow that frames count and not the networks.

Each figure is of a ComfyUI of its own, the malloc of its system as it is, and its first prompt: the most
anonymous memory that the process has, above what it had before the prompt. What ComfyUI and we import during
that prompt counts. Linux only, with a ComfyUI in $COMFYUI_PATH or ~/ComfyUI.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor

from wan_duet.pipelines.headless.host import Host, examine
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.latent_file import LatentFile, write_latents
from wan_duet.pipelines.video.probe import probe

sys.path.append(str(Path(__file__).parents[1] / "tests" / "golden"))
sys.path.append(str(Path(__file__).parents[1] / "tests" / "weights"))
import frame_nets
import tiny_files

RIFE = frame_nets.Rife((8, 8, 8, 8, 24), hidden=16, seen=4, last=52)  # of a layout that core knows
LOOK_S = 0.005
WAYS = ("render", "core")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[49, 201])
    parser.add_argument("--sizes", nargs="+", default=["320x176", "640x352"], metavar="WxH")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=WAYS)
    parser.add_argument("--between", type=int, nargs="+", default=[1])
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    host = examine(Path(os.environ.get("COMFYUI_PATH", "~/ComfyUI")).expanduser())
    peaks: dict[str, dict[str, dict[str, dict[int, int]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        for size, between, frames, way in product(given.sizes, given.between, given.frames, given.ways):
            peak = measured(host, Path(folder), way, size, frames, between)
            of_size = peaks.setdefault(size, {}).setdefault(f"{between} between", {})
            of_size.setdefault(way, {})[frames] = peak
            print(
                f"{size}, {frames} frames, {between} between, {way}: {peak / 2**20:.1f} MiB", file=sys.stderr
            )
            found = json.dumps(
                {
                    "date": str(date.today()),
                    "interpolation": "rife",
                    "frame_bytes_fp32": {size: 12 * area(size) for size in peaks},
                    "peak_bytes": peaks,
                },
                indent=2,
            )
            if given.out is not None:  # each time: the last ones take longest
                given.out.write_text(found + "\n", encoding="utf-8")
    print(found)


def write_models(folder: Path) -> None:
    """The two models, and where ComfyUI finds them."""
    torch.manual_seed(0)
    vae = dict(AutoencoderKLWan(base_dim=2).state_dict())
    files = {"vae": tiny_files.wan_vae_names(vae), "frame_interpolation": frame_nets.weights(RIFE.shapes())}
    for kind, weights in files.items():
        (folder / kind).mkdir()
        save_file(weights, folder / kind / "bench.safetensors")
    paths = {"bench": {kind: str(folder / kind) for kind in files}}
    (folder / "paths.yaml").write_text(json.dumps(paths), encoding="utf-8")  # JSON is YAML


def measured(host: Host, models: Path, way: str, size: str, frames: int, between: int) -> int:
    """Bytes that a new ComfyUI takes at most for its first prompt."""
    arguments = ("--extra-model-paths-config", str(models / "paths.yaml"))
    with HeadlessComfyUI(host, extra_args=arguments) as comfyui:
        width, height = sides(size)
        write_latents(comfyui.input / "bench.latent", LatentFile(slow_clouds(frames, width, height)))
        with watched(comfyui.pid) as peak:
            comfyui.run(graph(way, between))
        (video,) = comfyui.output.rglob("*.mp4")
        facts = probe(video)
    expected = frames + (frames - 1) * between
    if (facts.frames, facts.width, facts.height) != (expected, width, height):
        raise SystemExit(f"{way} made {facts.frames} frames of {facts.width}x{facts.height}")
    return peak()


def slow_clouds(frames: int, width: int, height: int) -> Tensor:
    """Latents whose neighbours are alike, in space and time, as those of a film: noise is slow to encode."""
    few = torch.randn(1, 16, frames // 16 + 2, 6, 10, generator=torch.Generator().manual_seed(0))
    size = ((frames + 3) // 4, height // 8, width // 8)
    return torch.nn.functional.interpolate(few, size=size, mode="trilinear")


def graph(way: str, between: int) -> dict[str, Any]:
    def node(kind: str, **inputs: object) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs}

    made = {
        "latent": node("LoadLatent", latent="bench.latent"),
        "vae": node("VAELoader", vae_name="bench.safetensors"),
        "save": node("SaveVideo", video=["video", 0], filename_prefix="bench", format="auto", codec="auto"),
    }
    if way == "render":
        settings = {
            "frames_per_second": 16.0,
            "reverse": False,
            "interpolator": "rife" if between else "none",
            "num_interpolated_frames": between,
            "adjust_fps_for_interpolation": True,
            "video_quality": "high",
            "video_write_mode": "balanced",
            "filename_prefix": "bench",
            "save": False,
        }
        return {**made, "video": node("WanDuetRenderVideo", latent=["latent", 0], vae=["vae", 0], **settings)}
    made["images"] = node("VAEDecode", samples=["latent", 0], vae=["vae", 0])
    if not between:
        return {**made, "video": node("CreateVideo", images=["images", 0], fps=16.0)}
    return {
        **made,
        "net": node("FrameInterpolationModelLoader", model_name="bench.safetensors"),
        "more": node(
            "FrameInterpolate", interp_model=["net", 0], images=["images", 0], multiplier=between + 1
        ),
        "video": node("CreateVideo", images=["more", 0], fps=16.0 * (between + 1)),
    }


@contextmanager
def watched(pid: int) -> Iterator[Any]:
    """Yields what says, afterwards, how many bytes of anonymous memory the process gained at most."""
    before, most, done = anonymous(pid), 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(LOOK_S):
            most = max(most, anonymous(pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lambda: most - before
    finally:
        done.set()
        watcher.join()


def anonymous(pid: int) -> int:
    """RssAnon: no code, no mapped files, which the system can drop."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def sides(size: str) -> tuple[int, int]:
    width, height = size.split("x")
    return int(width), int(height)


def area(size: str) -> int:
    width, height = sides(size)
    return width * height


if __name__ == "__main__":
    main()
