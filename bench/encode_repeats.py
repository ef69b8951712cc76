"""What it costs that equal frames give equal files: x264 with and without its macroblock tree.

    python bench/encode_repeats.py [--encodes 40] [--json bench/results/encode-repeats.json]
    python bench/encode_repeats.py --processes 3 --encodes 300 --json bench/results/encode-repeats.json

Two clips: the drawn one of `encode_table`, and 17 flat frames of 112x64 as the embedded model draws them.
Each row is one quality and write mode: KiB, luma PSNR and the median CPU seconds of one encode, and how many
different files came of `--encodes` encodes of the small clip. `tree` is false for what is used. Seconds are
of the process, so other work on the machine adds little.

With `--processes` only the small clip is encoded, so often in each of so many fresh processes. The JSON file
keeps its rows, and gets the number of different files for each write mode.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from encode_table import drawn, psnr

from wan_duet.pipelines.video.codecs import CODECS, QUALITIES, WRITE_MODES
from wan_duet.pipelines.video.containers import CONTAINERS
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.frame_stream import Frame

MP4, H264 = CONTAINERS["mp4"], CODECS["h264"]
BEFORE = {"fast": -2, "balanced": 0, "small": 0}  # added to today's CRF while the tree was used
BEFORE_AT_MAXIMUM = -1
Clip = Callable[[], Iterator[Frame]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encodes", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3, help="timed encodes of the large clip")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--write-modes", nargs="+", choices=WRITE_MODES, default=WRITE_MODES)
    parser.add_argument("--hashes", choices=WRITE_MODES, help="what a fresh process does: print a hash each")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.hashes:
        print_hashes(given.hashes, given.encodes)
    elif given.processes:
        in_fresh_processes(given.write_modes, given.processes, given.encodes, given.json)
    else:
        compare(given)


def compare(given: argparse.Namespace) -> None:
    clips: dict[str, tuple[Clip, tuple[int, int, int]]] = {
        "drawn 320x176": (lambda: drawn(33, 320, 176), (33, 320, 176)),
        "flat 112x64": (flat, (17, 112, 64)),
    }
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip_name, (clip, shape) in clips.items():
            truth = folder / "truth.mkv"
            encode_video(
                clip(), truth, frame_count=shape[0], width=shape[1], height=shape[2], fps=Fraction(16)
            )
            frames = list(clip())
            for quality in QUALITIES:
                for mode in WRITE_MODES:
                    for tree in (True, False):
                        chosen = options(quality, mode, tree)
                        row = {"clip": clip_name, "quality": quality, "write_mode": mode, "tree": tree}
                        row |= measured(folder, frames, truth, chosen, given.repeats)
                        if clip is flat:
                            row["encodes"] = given.encodes
                            row["files"] = different(folder, frames, chosen, given.encodes)
                        rows.append(row)
                        print(row, flush=True)
    if given.json:
        about = {"date": time.strftime("%Y-%m-%d"), "av": av.__version__, "device": "2 cores of an x86 CPU"}
        given.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


def in_fresh_processes(modes: Sequence[str], processes: int, encodes: int, kept: Path | None) -> None:
    """Count the different files of each write mode, and add that to the file `kept`."""
    about = {"date": time.strftime("%Y-%m-%d"), "av": av.__version__, "clip": "flat 112x64"}
    about |= {"processes": processes, "encodes_each": encodes}
    content: dict[str, Any] = {} if kept is None else json.loads(kept.read_text())
    files = content.get("fresh_processes", {}).get("files", {})
    for mode in modes:
        command = [sys.executable, __file__, "--hashes", mode, "--encodes", str(encodes)]
        each = [subprocess.check_output(command, text=True).split() for _ in range(processes)]
        files[mode] = len(set().union(*each))
        print(mode, [len(hashes) for hashes in each], files[mode], "different files", flush=True)
        if kept is not None:
            content["fresh_processes"] = {**about, "files": files}
            kept.write_text(json.dumps(content, indent=1) + "\n")


def print_hashes(mode: str, encodes: int) -> None:
    """Encode the small clip as a run does, and print the hash of each file."""
    frames = list(flat())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        for _ in range(encodes):
            encode_video(
                iter(frames),
                file,
                width=112,
                height=64,
                fps=Fraction(16),
                frame_count=len(frames),
                write_mode=mode,
            )
            print(hashlib.sha256(file.read_bytes()).hexdigest(), flush=True)


def flat() -> Iterator[Frame]:
    """Yield a disc that moves over a plain ground."""
    y, x = np.mgrid[:64, :112]
    for index in range(17):
        frame = np.full((64, 112, 3), 200, np.uint8)
        frame[(x - 10 - 4 * index) ** 2 + (y - 32) ** 2 < 200] = (30, 60, 220)
        yield frame


def measured(
    folder: Path, frames: list[Frame], truth: Path, encoder_options: Mapping[str, str], repeats: int
) -> dict[str, Any]:
    file, seconds = folder / "clip.mp4", []
    for _ in range(repeats):
        started = time.process_time()
        write(file, frames, encoder_options)
        seconds.append(time.process_time() - started)
    return {
        "kib": round(file.stat().st_size / 1024, 1),
        "luma_psnr_db": round(psnr(file, truth), 2),
        "cpu_seconds": round(statistics.median(seconds), 3),
    }


def different(folder: Path, frames: list[Frame], encoder_options: Mapping[str, str], encodes: int) -> int:
    """Return how many different files come of so many encodes."""
    file, found = folder / "clip.mp4", set()
    for _ in range(encodes):
        write(file, frames, encoder_options)
        found.add(hashlib.sha256(file.read_bytes()).digest())
    return len(found)


def options(quality: str, mode: str, tree: bool) -> dict[str, str]:
    """Return today's options, or those with the tree."""
    now = H264.encoder_options(quality, mode)
    crf = int(now["crf"]) + BEFORE[mode] + (BEFORE_AT_MAXIMUM if quality == "maximum" else 0)
    return {**now, "x264-params": "mbtree=1", "crf": str(crf)} if tree else now


def write(file: Path, frames: list[Frame], encoder_options: Mapping[str, str]) -> None:
    """Encode as `encode_video` does, with other options."""
    height, width, _ = frames[0].shape
    with av.open(str(file), "w", options=MP4.muxer_options(Fraction(16))) as output:
        stream = output.add_stream(H264.encoder, rate=16, options=dict(encoder_options))
        stream.width, stream.height, stream.pix_fmt = width, height, H264.pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, ColorRange.MPEG
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture = picture.reformat(
                format=H264.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


if __name__ == "__main__":
    main()
