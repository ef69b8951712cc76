"""What a video file really contains: opened, decoded and counted, not believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from ..errors import MediaError

__all__ = ["VideoFacts", "probe", "verify"]


@dataclass(frozen=True)
class VideoFacts:
    """One video file. `frames` is how many there are, `duration_s` how long they are shown."""

    path: Path
    width: int
    height: int
    frames: int
    fps: Fraction
    duration_s: float
    codec: str
    pix_fmt: str
    tags: Mapping[str, str] = field(default_factory=dict)


def probe(path: Path) -> VideoFacts:
    """Decode every frame of the first video stream of `path`.

    Raises:
        MediaError: the file is missing, damaged, or has no picture in it.
    """
    path = Path(path)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise MediaError(f"{path} has no video stream in it")
            stream = container.streams.video[0]
            frames = sum(1 for _ in container.decode(stream))
            fps = stream.average_rate or stream.guessed_rate
            if not frames or fps is None:
                raise MediaError(f"{path} has a video stream without a single readable frame")
            seconds = frames / fps
            if stream.duration is not None and stream.time_base is not None:
                seconds = stream.duration * stream.time_base
            context = stream.codec_context
            return VideoFacts(
                path=path,
                width=context.width,
                height=context.height,
                frames=frames,
                fps=Fraction(fps),
                duration_s=float(seconds),
                codec=context.name,
                pix_fmt=str(context.pix_fmt),
                tags=dict(container.metadata),
            )
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read {path} as a video: {error.strerror or error}") from error


def verify(facts: VideoFacts, *, frames: int, width: int, height: int, fps: Fraction) -> None:
    """Nothing when the file is what was asked for.

    Raises:
        MediaError: names every difference.
    """
    pairs = (
        ("frames", facts.frames, frames),
        ("width", facts.width, width),
        ("height", facts.height, height),
        ("fps", facts.fps, fps),
    )
    wrong = [f"{name} is {found}, expected {wanted}" for name, found, wanted in pairs if found != wanted]
    if wrong:
        raise MediaError(f"{facts.path} is not the video that was asked for: {'; '.join(wrong)}")
