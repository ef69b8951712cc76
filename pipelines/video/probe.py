"""Reads what a video file contains. Decodes every frame instead of trusting the header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from ..errors import MediaError
from .open_media import exact_fraction, open_animation, open_media, tags_of
from .streams import picture_stream, sound_stream
from .tags import with_own_names
from .webp_tags import read_webp_tags

__all__ = ["AudioFacts", "VideoFacts", "probe", "verify"]


@dataclass(frozen=True)
class AudioFacts:
    """The sound of a file. rate: samples per second."""

    codec: str
    rate: int
    channels: int
    duration_s: float


@dataclass(frozen=True)
class VideoFacts:
    """The facts about a video file.

    width, height: in pixels, as a player shows it, after a rotation that a phone wrote into the file.
    frames:        number of frames. duration_s: how long they are shown, in seconds.
    """

    path: Path
    width: int
    height: int
    frames: int
    fps: Fraction
    duration_s: float
    codec: str
    pix_fmt: str
    tags: Mapping[str, str] = field(default_factory=dict)
    audio: AudioFacts | None = None


def probe(path: Path) -> VideoFacts:
    """Decode all frames of the first video stream of `path`, and all samples of its first sound.

    Raises MediaError if the file is missing or damaged, or has no video stream.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".webp":
            return _probe_webp(path)
        with open_media(path) as container:
            stream, sound = picture_stream(container, str(path)), sound_stream(container, str(path))
            frames = samples = turn = 0
            for frame in container.decode([stream] if sound is None else [stream, sound]):
                if isinstance(frame, av.VideoFrame):
                    frames, turn = frames + 1, frame.rotation
                else:
                    samples += frame.samples
            fps = exact_fraction(stream.average_rate or stream.guessed_rate)
            if not frames or fps is None:
                raise MediaError(f"{path} has a video stream without a single readable frame")
            seconds = frames / fps
            base = exact_fraction(stream.time_base)
            if stream.duration is not None and base is not None:
                seconds = stream.duration * base
            context = stream.codec_context
            size = (context.width, context.height)
            width, height = size[::-1] if round(turn / 90) % 2 else size
            return VideoFacts(
                path=path,
                width=width,
                height=height,
                frames=frames,
                fps=fps,
                duration_s=float(seconds),
                codec=context.codec.canonical_name,
                pix_fmt=str(context.pix_fmt),
                tags=with_own_names(tags_of(container)),
                audio=None if sound is None else _audio_facts(sound, samples),
            )
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read {path} as a video: {error.strerror or error}") from error


def _audio_facts(stream: av.AudioStream, samples: int) -> AudioFacts:
    context = stream.codec_context
    rate = context.sample_rate
    return AudioFacts(context.codec.canonical_name, rate, context.layout.nb_channels, samples / rate)


def _probe_webp(path: Path) -> VideoFacts:
    with open_animation(path, str(path)) as image:
        milliseconds = 0
        frames = getattr(image, "n_frames", 1)
        for index in range(frames):
            image.seek(index)
            image.load()
            milliseconds += image.info.get("duration", 0)
        tags = read_webp_tags(image.getexif())
        # A still image has no rate.
        fps = Fraction(1000 * frames, milliseconds) if milliseconds else Fraction(1)
        return VideoFacts(
            path, image.width, image.height, frames, fps, milliseconds / 1000, "webp", "bgra", tags
        )


_RATE_STEP = 1e-5  # Matroska stores nanoseconds per frame, and libav estimates the rate from them


def verify(facts: VideoFacts, *, frames: int, width: int, height: int, fps: Fraction) -> None:
    """Raise MediaError that names every difference between the file and the expected values."""
    pairs = (
        ("frames", facts.frames, frames),
        ("width", facts.width, width),
        ("height", facts.height, height),
        ("fps", fps if abs(facts.fps / fps - 1) <= _RATE_STEP else facts.fps, fps),
    )
    wrong = [f"{name} is {found}, expected {wanted}" for name, found, wanted in pairs if found != wanted]
    if wrong:
        raise MediaError(f"{facts.path} is not the video that was planned: {'; '.join(wrong)}")
