"""Moving pictures and sounds to write into files."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wan_duet.pipelines.video.audio import Audio
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.probe import VideoFacts

WIDTH, HEIGHT = 112, 64


def moving(count: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[Frame]:
    wide = np.random.default_rng(0).integers(0, 256, (height, width + 2 * count, 3), np.uint8)
    for i in range(count):
        yield np.ascontiguousarray(wide[:, 2 * i : 2 * i + width])


def soft(count: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[Frame]:
    """A picture as a camera sees it, most of it slow changes, moving to the left."""
    rough = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8 + count, 3), np.uint8)
    wide = np.asarray(Image.fromarray(rough).resize((width + 8 * count, height), Image.Resampling.BICUBIC))
    for i in range(count):
        yield np.ascontiguousarray(wide[:, 2 * i : 2 * i + width])


def write(path: Path, count: int = 5, frames: Iterator[Frame] | None = None, **changes: object) -> VideoFacts:
    values: dict[str, Any] = {
        "width": WIDTH,
        "height": HEIGHT,
        "fps": Fraction(16),
        "frame_count": count,
        "write_mode": "fast",
        **changes,
    }
    return encode_video(moving(count) if frames is None else frames, path, **values)


def tone(seconds: float, rate: int = 44_100, channels: int = 2, hertz: float = 440) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return Audio(np.stack([np.sin(2 * np.pi * hertz * time) * 0.5] * channels).astype(np.float32), rate)
