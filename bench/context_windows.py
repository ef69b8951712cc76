"""A clip more than twice as long as the training on the embedded model: whole, with RIFLEx, and in windows.

    python bench/context_windows.py [--seeds 20] [-o bench/results/context-windows.json]

The embedded model's detector looks at each of three parts: how many show the shape, colour and motion of the
prompt? The largest difference of two frames (mean of all pixels, in levels) is held against their 95th
percentile: a cut inside a clip stands out there. Seeds that OUT has already are not measured again.
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
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.version import VERSION
from wan_duet.pipelines.video.read import read_frames

FRAMES, STEPS = 41, 8  # the training had 17 frames
PARTS = 3
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "riflex": {"riflex": 1},  # of a period of 6.3 latent frames, the nearest to the 5 of the training
    "windows": {"context_frames": 17},
}
SHAPES, COLOURS = ("ball", "square", "triangle", "star"), ("red", "blue", "green", "yellow", "purple")
MOTIONS = {"moving left": "left", "moving up": "up", "spinning": "spinning", "growing": "growing"}


def measured(model: WanModel, seed: int, local: dict[str, Any], file: Path) -> dict[str, Any]:
    shape, colour = SHAPES[1 + seed % 3], COLOURS[seed % 5]  # a ball does not spin
    words, motion = list(MOTIONS.items())[seed % 4]
    request = t2v_request(
        prompt=f"a {colour} {shape} {words} on a white background",
        num_frames=FRAMES, num_inference_steps=STEPS, seed=seed, aspect_ratio="1:1",
        interpolator_model="none", video_quality="maximum", local=local or None,
    )  # fmt: skip
    made = run(request, model, out=file, memory=DeviceMemory("cpu"), progress=Silent())
    frames = np.stack(list(read_frames(made.path))).astype(np.uint8)
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    seen = [look_at(part) for part in np.array_split(frames, PARTS)]
    return {
        "seed": seed,
        "shape": [one.shape == shape for one in seen],
        "colour": [one.colour == colour for one in seen],
        "motion": [one.motion == motion for one in seen],
        "largest_step_to_p95": round(float(steps.max() / np.percentile(steps, 95)), 3),
        "forwards": made.receipt["plan"]["forwards"],
        "sampling_s": round(made.receipt["timings_s"]["sampling"], 2),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    shares = {name: float(np.mean([row[name] for row in rows])) for name in ("shape", "colour", "motion")}
    medians = {
        name: float(np.median([row[name] for row in rows])) for name in ("largest_step_to_p95", "forwards")
    }
    return {name: round(value, 3) for name, value in {**shares, **medians}.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench/results/context-windows.json"))
    options = parser.parse_args()
    model, rows = load_model("toy"), {way: list[dict[str, Any]]() for way in WAYS}
    if options.output.exists():
        rows = json.loads(options.output.read_text(encoding="utf-8"))["rows"]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(len(rows["whole"]), options.seeds):
            for way, local in WAYS.items():
                rows[way].append(measured(model, seed, local, Path(folder) / f"{seed} {way}.mp4"))
            print(seed, {way: summary(made) for way, made in rows.items()}, flush=True)
            answer = {
                "version": VERSION, "frames": FRAMES, "steps": STEPS, "seeds": seed + 1, "ways": WAYS,
                "parts_as_told": {way: summary(made) for way, made in rows.items()}, "rows": rows,
            }  # fmt: skip
            options.output.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
