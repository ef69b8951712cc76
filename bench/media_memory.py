"""What a clip takes in memory on its way into a file, at most, by its length.

    python bench/media_memory.py [--source vae] [--edits plain reverse flow gif] [--frames 49 201 801]
                                 [--sizes 320x176 640x352] [--sound-seconds 60 1800] [-o OUT.json]

Prints JSON: bytes above the start, per size, edit and number of frames, and by the length of a stereo sound
beside one small frame per second; a slope is what a frame or a second more takes. Each case is a fork of its
own, because the peak of a process never falls. The VAE is so narrow that the frames, and not the network, are
what counts. Linux only. MALLOC_MMAP_THRESHOLD_=65536 MALLOC_ARENA_MAX=1 in the environment makes glibc give
back what is free, so that only what is held counts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import wave
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from wan_duet.pipelines.interpolation.optical_flow import FlowInterpolator
from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.video.edit import Edit, write_edited
from wan_duet.pipelines.video.frame_stream import Frame, FrameStream
from wan_duet.pipelines.video.frames import video_frames
from wan_duet.pipelines.video.pixel_layout import forget_graphs
from wan_duet.pipelines.video.sound import FileSound

SOUND_RATE = 48_000

EDITS = {
    "plain": Edit(Fraction(16)),
    "reverse": Edit(Fraction(16), reverse=True),
    "flow": Edit(Fraction(16), interpolator="flow", num_interpolated_frames=1),
    "gif": Edit(Fraction(16), write_mode="fast"),
}
FILES = {"gif": "clip.gif"}  # the others are MP4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=["pictures", "vae"], default="vae")
    parser.add_argument("--edits", choices=EDITS, nargs="+", default=["plain", "reverse"])
    parser.add_argument("--frames", type=int, nargs="+", default=[49, 201, 801])
    parser.add_argument("--sizes", nargs="+", default=["320x176"], metavar="WxH")
    parser.add_argument("--sound-seconds", type=int, nargs="+", default=[])
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sides = {size: tuple(map(int, size.split("x"))) for size in given.sizes}
    with tempfile.TemporaryDirectory() as folder:

        def write(count: int, name: str, width: int, height: int) -> None:
            edit, place = EDITS[name], Path(folder, FILES.get(name, "clip.mp4"))
            frames = decoded(count, width, height) if given.source == "vae" else drawn(count, width, height)
            interpolator = FlowInterpolator() if edit.between else None
            clip = {"count": count, "width": width, "height": height}
            write_edited(frames, place, edit, **clip, interpolator=interpolator)

        def peaks(name: str, width: int, height: int) -> dict[int, int]:
            write(9, name, width, height)  # what is loaded once does not count
            return {count: peak_of(partial(write, count, name, width, height)) for count in given.frames}

        def heard(seconds: int) -> int:
            file = Path(folder, f"{seconds}.wav")
            write_tone(file, seconds)
            return peak_of(partial(write_with_sound, file, seconds))

        if given.sound_seconds:
            write_with_sound(write_tone(Path(folder, "warm.wav"), 5), 5)
        sound = {seconds: heard(seconds) for seconds in given.sound_seconds}
        found = {
            "date": str(date.today()),
            "source": given.source,
            "frame_bytes_fp32": {size: 12 * width * height for size, (width, height) in sides.items()},
            "peak_bytes": {
                size: {name: peaks(name, *both) for name in given.edits} for size, both in sides.items()
            },
        }
    found["slope_bytes_per_frame"] = {
        size: {name: slope(peak) for name, peak in edits.items()}
        for size, edits in found["peak_bytes"].items()
    }
    if sound:
        found["sound_bytes_per_second"] = SOUND_RATE * 2 * 4
        found["peak_bytes_by_seconds_of_sound"] = sound
        found["slope_bytes_per_second_of_sound"] = slope(sound)
    text = json.dumps(found, indent=2)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def slope(peaks: dict[int, int]) -> float:
    """Return the bytes by which the peak grows for each one more, between the smallest and the largest."""
    least, most = min(peaks), max(peaks)
    return round((peaks[most] - peaks[least]) / max(most - least, 1), 1)


def write_tone(file: Path, seconds: int) -> Path:
    tone = (np.sin(np.arange(SOUND_RATE) * 2 * np.pi * 440 / SOUND_RATE) * 10_000).astype("<i2")
    with wave.open(str(file), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(SOUND_RATE)
        for _ in range(seconds):
            out.writeframes(np.repeat(tone, 2).tobytes())
    return file


def write_with_sound(file: Path, seconds: int) -> None:
    sound = FileSound(file, SOUND_RATE, "stereo", Fraction(0))
    edit, size = Edit(Fraction(1)), {"width": 64, "height": 48}
    write_edited(drawn(seconds, **size), file.with_suffix(".mp4"), edit, count=seconds, **size, audio=sound)


def decoded(count: int, width: int, height: int) -> FrameStream:
    torch.manual_seed(0)
    narrow = {"base_dim": 2, "z_dim": 2, "num_res_blocks": 1}
    vae = AutoencoderKLWan(**narrow, latents_mean=[0.0] * 2, latents_std=[1.0] * 2)
    latents = torch.randn(1, 2, (count + 6) // 4, height // 8, width // 8)
    return video_frames(stream_decode(vae, latents, frames=count))


def drawn(count: int, width: int, height: int) -> Iterator[Frame]:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for index in range(count):
        yield np.roll(picture, 2 * index, 1)


def peak_of(job) -> int:
    """Bytes that `job` takes at most, above what this process has now."""
    read, write = os.pipe()
    # Freeing a graph of filters waits for its threads, which a fork does not have.
    forget_graphs()
    gc.collect()
    child = os.fork()
    if not child:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = resident("VmRSS")
        job()
        os.write(write, str(resident("VmHWM") - before).encode())
        os._exit(0)
    os.close(write)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read) as answer:
        if status:
            raise SystemExit(status)
        return int(answer.read())


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
