"""What each quality and write mode costs: size, luma PSNR and time of one clip, for each lossy codec.

    python bench/encode_table.py [--frames 81] [--size 640 352] [--codec h264 h265 ...]

The clip is drawn: a soft texture that moves and grows, with a little grain. Sizes and PSNR repeat exactly on
one version of libav; seconds only compare within one run on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from wan_duet.pipelines.video.codecs import QUALITIES, WRITE_MODES
from wan_duet.pipelines.video.containers import CONTAINERS
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.open_media import open_media
from wan_duet.pipelines.video.video_format import AUTO, FormatWish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", type=int, nargs=2, default=[640, 352], metavar=("W", "H"))
    parser.add_argument("--codec", nargs="+", default=["h264", "h265", "av1", "vp9"], metavar="C")
    given = parser.parse_args()
    width, height = given.size
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder, "truth.mkv")
        write(truth, given.frames, width, height, "high", "fast")
        for codec in given.codec:
            suffix = next(name for name, container in CONTAINERS.items() if codec in container.codecs)
            print(f"\n| {codec} | " + " | ".join(WRITE_MODES) + " |\n|---|---|---|---|")
            for quality in QUALITIES:
                cells = []
                for mode in WRITE_MODES:
                    path = Path(folder, f"clip.{suffix}")
                    started = time.perf_counter()
                    write(path, given.frames, width, height, quality, mode, codec)
                    seconds = time.perf_counter() - started
                    size_kib = path.stat().st_size / 1024
                    cells.append(f"{size_kib:.0f} KiB, {psnr(path, truth):.1f} dB, {seconds:.1f} s")
                print(f"| {quality} | " + " | ".join(cells) + " |", flush=True)


def write(
    path: Path, frames: int, width: int, height: int, quality: str, mode: str, codec: str = AUTO
) -> None:
    clip = {"width": width, "height": height, "fps": Fraction(32), "frame_count": frames}
    wish = FormatWish(codec)
    encode_video(drawn(frames, width, height), path, **clip, quality=quality, write_mode=mode, wish=wish)


def drawn(frames: int, width: int, height: int) -> Iterator[Frame]:
    random = np.random.default_rng(0)
    texture = Image.fromarray(random.integers(0, 256, (height // 16, width // 8, 3), np.uint8))
    texture = texture.resize((2 * width, height), Image.Resampling.BICUBIC)
    for index in range(frames):
        left, zoom = 3 * index, 1 - 0.002 * index
        part = texture.resize((width, height), box=(left, 0, left + width * zoom, height * zoom))
        grain = random.normal(0, 2, (height, width, 3))
        yield np.clip(np.asarray(part) + grain, 0, 255).round().astype(np.uint8)


def psnr(path: Path, truth: Path) -> float:
    """Of luma, in dB, over the whole clip."""
    errors = [np.square(a - b).mean() for a, b in zip(luma(path), luma(truth), strict=True)]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def luma(path: Path) -> Iterator[np.ndarray]:
    with open_media(path) as container:
        for frame in container.decode(video=0):
            grey = frame.reformat(format="yuv444p", dst_colorspace=1, dst_color_range=1)
            yield grey.to_ndarray()[0].astype(float)


if __name__ == "__main__":
    main()
