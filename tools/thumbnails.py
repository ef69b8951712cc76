"""Make the pictures of the shipped workflows again, from what today's weights draw.

    python -m tools.thumbnails [NAME ...]

Runs each workflow of workflows/api in the ComfyUI of $COMFYUI_PATH, and writes the frame in the middle of its
last result to workflows/NAME.jpg. Workflows that need a key, or weights that are not here, are named with the
reason, and their picture is the graph.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import examine, find_comfyui
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.read import read_frames

from .graph_picture import graph_picture

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
SIZE = (768, 512)
_AROUND = (32, 32, 32)  # the canvas of ComfyUI's dark theme


def result_frames(client: ComfyClient, graph: dict[str, Any], folder: Path) -> list[Frame]:
    """Run `graph`. Returns the frames of the file that the last saving node in it wrote."""
    job, nodes = client.run(graph), list(graph)
    saved = [file for file in job.files if graph[file.node_id]["class_type"].startswith("Save")]
    if not saved:
        raise HostError("no saving node gave a file")
    last = max(saved, key=lambda file: nodes.index(file.node_id))  # nodes run in any order
    file = client.download(last, folder / last.name)
    if file.suffix in (".mp4", ".webm"):
        return list(read_frames(file))
    with Image.open(file) as image:
        return [np.asarray(image.convert("RGB"))]


def thumbnail(frame: Frame) -> Image.Image:
    """Fit `frame` (H, W, 3) into SIZE."""
    height, width = frame.shape[:2]
    scale = min(SIZE[0] / width, SIZE[1] / height)
    fitted = Image.fromarray(frame).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.LANCZOS
    )
    picture = Image.new("RGB", SIZE, _AROUND)
    picture.paste(fitted, ((SIZE[0] - fitted.width) // 2, (SIZE[1] - fitted.height) // 2))
    return picture


def main(names: list[str]) -> int:
    named = os.environ.get("COMFYUI_PATH", "~/ComfyUI")
    found = find_comfyui(Path(named).expanduser())
    if found is None:
        print(f"no ComfyUI at {named}; set COMFYUI_PATH", file=sys.stderr)
        return 1
    names = names or sorted(file.stem for file in (WORKFLOWS / "api").glob("*.json"))
    with (
        tempfile.TemporaryDirectory() as folder,
        HeadlessComfyUI(examine(found.path)) as comfyui,
        ComfyClient(comfyui.url) as client,
    ):
        shutil.copy(found.path / "input" / "example.png", comfyui.input)  # Load Image's, in every ComfyUI
        for name in names:
            graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
            try:
                frames = result_frames(client, graph, Path(folder))
                picture = thumbnail(frames[len(frames) // 2])
                print(name)
            except HostError as error:
                picture = graph_picture(WORKFLOWS / f"{name}.json", SIZE)
                print(f"{name}: shown as its graph: {error}", file=sys.stderr)
            picture.save(WORKFLOWS / f"{name}.jpg", quality=85)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
