"""Clips with a white flash and a 1 kHz beep at each full second, and a reader that finds both by their times.

Neither uses the pack: PyAV writes and reads alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000
LIT_S = 0.1  # how long a flash and a beep last
_SIDES = (64, 48)
_TICKS = 90_000  # per second, of the frames
_CODECS = {
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
    "ts": ("libx264", "aac"),
    "avi": ("libx264", "pcm_s16le"),
}


def constant(fps: int, seconds: float) -> list[float]:
    return [n / fps for n in range(round(seconds * fps))]


def phone(seconds: int) -> list[float]:
    """30 frames per second for the first half, then 24, as a phone in the dark."""
    half = seconds / 2
    return [*constant(30, half), *(half + t for t in constant(24, half))]


def screen(seconds: int) -> list[float]:
    """A screen recording: a frame where something changes, 60 per second at most, and pauses in between."""
    times = [t for t in constant(60, seconds) if t % 1 < 0.25 or round(t * 60) % 20 == 0]
    return [t for t in times if not 1.3 < t < 1.9]


def write_clip(
    path: Path,
    times: Sequence[float],
    *,
    sound_from: float = 0.0,
    picture_from: float = 0.0,
    b_frames: int = 0,
    fps: int = 30,
    **options: str,
) -> None:
    """Write a clip with frames at `times`, and a sound as long. Flash and beep come at full seconds.

    options: of the muxer.
    """
    video_codec, audio_codec = _CODECS[path.suffix[1:]]
    with av.open(str(path), "w", options=options) as output:
        video = output.add_stream(video_codec, rate=fps)
        video.width, video.height = _SIDES
        video.pix_fmt = "yuv420p"
        # The frames of an AVI have numbers instead of times.
        ticks = Fraction(1, fps if path.suffix == ".avi" else _TICKS)
        video.codec_context.time_base = ticks
        if video_codec == "libx264":
            video.options = {"preset": "ultrafast", "bf": str(b_frames), "g": "12", "crf": "12"}
        else:
            video.options = {"deadline": "realtime", "cpu-used": "8", "b": "0", "crf": "10"}
        audio = output.add_stream(audio_codec, rate=RATE, layout="mono")
        for t in times:
            at = t + picture_from
            frame = av.VideoFrame.from_ndarray(_picture(at), format="yuv420p")
            frame.pts, frame.time_base = round(at / ticks), ticks
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        seconds = times[-1] + 1 / fps
        clock = sound_from + np.arange(round(seconds * RATE)) / RATE
        samples = (np.sin(2 * np.pi * 1000 * clock) * _lit(clock) * 0.8).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE, round(sound_from * RATE), Fraction(1, RATE)
        output.mux(audio.encode(sound))
        output.mux(audio.encode(None))


def _picture(at: float) -> np.ndarray:
    """Return white or black as yuv420p: the luma, and below it the chroma, as PyAV takes it."""
    width, height = _SIDES
    level = 235 if _lit(np.array(at + 1e-6)) else 16
    return np.full(
        (height * 3 // 2, width), np.repeat([level, 128], [height, height // 2])[:, None], np.uint8
    )


def _lit(clock: np.ndarray) -> np.ndarray:
    return (clock % 1 < LIT_S) & (clock >= 0.5)


@dataclass(frozen=True)
class Seen:
    """What a player shows: times in seconds of the file's clock. frames: how many."""

    flashes: list[float]
    beeps: list[float]
    frames: int


def look(path: Path) -> Seen:
    with av.open(str(path)) as file:
        frames = [(_time(frame), _luma(frame)) for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        sound = file.streams.audio[0]
        loud = [
            _time(frame) + np.flatnonzero(np.abs(frame.to_ndarray()).max(0) > 0.1) / sound.rate
            for frame in file.decode(sound)
        ]
    beeps = np.concatenate(loud).tolist()
    return Seen(_onsets([t for t, grey in frames if grey > 128]), _onsets(beeps), len(frames))


def _time(frame: av.VideoFrame | av.AudioFrame) -> float:
    return float(frame.pts * frame.time_base)


def _luma(frame: av.VideoFrame) -> float:
    """Return the mean of the first plane. A conversion would start threads for each frame."""
    plane = frame.planes[0]
    return float(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : frame.width].mean())


def _onsets(times: list[float]) -> list[float]:
    return [t for n, t in enumerate(times) if not n or t - times[n - 1] > 0.5]


def remuxed(source: Path, path: Path, shift: Callable[[av.Packet], float]) -> None:
    """Copy packets into another file, each moved by some seconds."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.size:
                ticks = round(shift(packet) / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
