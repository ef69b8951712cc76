"""How near `flow` comes to the truth, on scenes whose truth is known: the table of docs/performance.md.

    python bench/flow_scenes.py [--size 1280x720] [--between 1]

Means over two pairs of frames of each scene, and over the frames between them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

import torch

from wan_duet.pipelines.interpolation.optical_flow import FlowInterpolator

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from interpolation.scenes import SCENES, blend, psnr, scene, ssim


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1280x720", metavar="WxH")
    parser.add_argument("--between", type=int, default=1, help="new frames between two")
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    times = [(number + 1) / (options.between + 1) for number in range(options.between)]
    flow = FlowInterpolator()
    print("| scene | blend | `flow` |\n|---|---|---|")
    for name in SCENES:
        film, found = scene(name, width, height), []
        for first in (0, 2):
            a, b = film.frame(first), film.frame(first + 1)
            for time, made in zip(times, flow.between(a, b, times), strict=True):
                truth, mixed = film.frame(first + time), blend(a, b, time)
                found.append((psnr(mixed, truth), ssim(mixed, truth), psnr(made, truth), ssim(made, truth)))
        means = [mean(values) for values in zip(*found, strict=True)]
        print("| {} | {:.1f} dB, {:.3f} | {:.1f} dB, {:.3f} |".format(name, *means), flush=True)


if __name__ == "__main__":
    main()
