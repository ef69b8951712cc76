"""Three shots in one video on the embedded model: does each show what its prompt says, and are joins smooth?

    python bench/shots.py [--seeds 20] [-o bench/results/shots.json]

The embedded model's detector looks at each shot. The difference of the two frames at a continued join (the
mean of all pixels, in levels) is held against the 95th percentile of such differences inside the shots.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.detector import look_at
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.version import VERSION
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.weights.lora.find import LoraSources

BOARD = (
    "33f: a red ball moving left on a white background | 33f continue: a red ball moving up on a white "
    "background | 33f dissolve 6: a blue ball moving right on a white background"
)
WANTED = (("red", "left"), ("red", "up"), ("blue", "right"))
PARTS = ((0, 33), (33, 59), (65, 92))  # without the frames that are mixed
JOIN = 33  # the first frame of the shot that continues


def measured(worker: LocalWorker, seed: int, folder: Path) -> dict[str, Any]:
    values = {"storyboard": BOARD, "seed": seed, "aspect_ratio": "1:1", "interpolator_model": "none"}
    film = worker.run(parse("shots", {**values, "video_quality": "maximum"}), folder / f"{seed}.mp4")
    frames = np.stack(list(read_frames(film.path))).astype(np.float32)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    inside = np.concatenate([steps[: JOIN - 1], steps[JOIN:58]])
    seen = [look_at(frames[start:end].astype(np.uint8)) for start, end in PARTS]
    return {
        "seed": seed,
        "as_told": [(one.colour, one.motion) == wanted for one, wanted in zip(seen, WANTED, strict=True)],
        "join": round(float(steps[JOIN - 1]), 3),
        "p95_inside": round(float(np.percentile(inside, 95)), 3),
        "colour_drift": film.receipt["colour_drift"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench/results/shots.json"))
    options = parser.parse_args()
    worker = LocalWorker(
        load_model("toy"),
        DeviceMemory("cpu", keeps=True),
        Silent(),
        silent,
        LoraSources(embedded=embedded_loras()),
        Interpolators(),
        image_model=load_model("toy-image"),
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            rows.append(measured(worker, seed, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    told = np.array([row["as_told"] for row in rows]).mean(axis=0)
    ratio = np.array([row["join"] / row["p95_inside"] for row in rows])
    answer = {
        "version": VERSION,
        "storyboard": BOARD,
        "seeds": options.seeds,
        "as_told": dict(zip(("first", "continued", "dissolved"), map(float, told.round(3)), strict=True)),
        "join_to_p95": {"median": round(float(np.median(ratio)), 3), "largest": round(float(ratio.max()), 3)},
        "rows": rows,
    }
    options.output.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: answer[name] for name in ("as_told", "join_to_p95")}))


if __name__ == "__main__":
    main()
