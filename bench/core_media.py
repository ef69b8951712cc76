"""What ComfyUI's own load and save make of inputs as people have them: a column of docs/media.md.

    COMFYUI/venv/bin/python bench/core_media.py COMFYUI

Each file is made here, loaded by ComfyUI's `VideoFromFile`, and saved by its `VideoFromComponents`. Runs in
ComfyUI's environment; needs ffmpeg.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

CLIPS = Path(__file__).resolve().parents[1] / "tests" / "video"
RAW = ["-f", "rawvideo", "-s", "64x64", "-r", "10"]


def main() -> None:
    host = Path(sys.argv.pop()).resolve()
    sys.path.insert(0, str(host))
    os.chdir(host)
    sys.path.insert(0, str(CLIPS))
    import flash_and_beep as clips
    from comfy_api.latest import InputImpl, Types

    def load(file: Path | str) -> Any:
        return InputImpl.VideoFromFile(str(file)).get_components()

    def save(components: Any, file: Path) -> Path:
        InputImpl.VideoFromComponents(components).save_to(str(file))
        return file

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)

        def apart(times: list[float], **offsets: float) -> str:
            clips.write_clip(folder / "clip.mp4", times, **offsets)
            seen = clips.look(save(load("clip.mp4"), folder / "out.mp4"))
            gaps = [flash - beep for flash, beep in zip(seen.flashes, seen.beeps, strict=False)]
            return f"flash and beep are {max(map(abs, gaps)):.2f} s apart"

        def odd() -> str:
            images = torch.rand(4, 181, 321, 3)
            save(Types.VideoComponents(images=images, frame_rate=Fraction(16)), folder / "odd.mp4")
            return "saved"

        show("30 then 24 fps", lambda: apart(clips.phone(10)))
        show("screen recording", lambda: apart(clips.screen(4)))
        show("sound 0.5 s late", lambda: apart(clips.constant(30, 4), sound_from=0.5))
        show("picture 0.7 s late", lambda: apart(clips.constant(30, 4), picture_from=0.7))
        show("sample aspect 64:45", lambda: size(load(narrow(folder / "sar.mp4"))))
        show("321x181", odd)
        show("red under alpha 0", lambda: colour(load(transparent(folder / "alpha.mov"))))
        show("album art", lambda: size(load(album(folder / "art.mp3"))))
        show("a:b.mp4", lambda: size(load(narrow(folder / "a.mp4").rename("a:b.mp4"))))
        show("HLG, white at 203 nit", lambda: colour(load(hlg(folder / "hlg.mp4"))))
        show("damaged packet", lambda: f"{len(load(damaged(folder / 'a.ts')).images)} of 100 frames")


def show(name: str, case: Callable[[], str]) -> None:
    try:
        print(f"{name}: {case()}", flush=True)
    except Exception as error:  # whatever ComfyUI raises is its answer
        print(f"{name}: {type(error).__name__}: {error}", flush=True)


def size(components: Any) -> str:
    return "x".join(map(str, components.images.shape[2:0:-1]))


def colour(components: Any) -> str:
    """The colour of a place in the lower half."""
    return str([round(float(value) * 255) for value in components.images[0, 50, 32, :3]])


def ffmpeg(*arguments: str | Path, given: bytes | None = None) -> None:
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=given, check=True)


def narrow(file: Path) -> Path:
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=s=720x576:r=10:d=0.5", "-vf", "setsar=64/45", "-c:v", "libx264", file
    )
    return file


def transparent(file: Path) -> Path:
    """Red everywhere, visible in the upper half."""
    frames = np.zeros((5, 64, 64, 4), np.uint8)
    frames[..., 0] = 255
    frames[:, :32, :, 3] = 255
    codec = ["-c:v", "prores_ks", "-profile:v", "4444"]
    ffmpeg(*RAW, "-pix_fmt", "rgba", "-i", "-", *codec, file, given=frames.tobytes())
    return file


def album(file: Path) -> Path:
    sources = ["-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi", "-i", "color=red:s=64x64:d=0.04"]
    ffmpeg(*sources, "-map", "0", "-map", "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic", file)
    return file


def hlg(file: Path) -> Path:
    """White at 203 nit: 75 % of the signal (BT.2408), ten bits, limited range."""
    luma, chroma = np.full(64 * 64, round(64 + 876 * 0.75), np.uint16), np.full(64 * 32, 512, np.uint16)
    colours = ["-color_primaries", "bt2020", "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc"]
    codec = ["-c:v", "libx265", "-x265-params", "log-level=none", *colours, "-color_range", "tv"]
    frames = 5 * (luma.tobytes() + chroma.tobytes())
    ffmpeg(*RAW, "-pix_fmt", "yuv420p10le", "-i", "-", *codec, file, given=frames)
    return file


def damaged(file: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=320x240:r=25:d=4", "-c:v", "libx264", "-g", "25", file)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    file.write_bytes(content)
    return file


if __name__ == "__main__":
    main()
