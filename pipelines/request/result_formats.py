"""The file formats that a run on this machine can write, beside its usual MP4 with H.264 and 8 bits.

`video.containers` and `video.codecs` know how they are written. Formats whose metadata cannot take the hash
of the frames at the end, as MKV and WebM, are left to `media convert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = ["CODECS_OF", "SCENE_THRESHOLD", "BitDepth", "CodecName", "ContainerName"]

ContainerName = Literal["mp4", "mov"]
CodecName = Literal["auto", "h264", "h265", "av1", "prores", "prores-4444"]
BitDepth = Literal[8, 10]

CODECS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mp4": ("h264", "h265", "av1"), "mov": ("prores", "prores-4444", "h264", "h265")}
)
"""The codecs of each container, the one of "auto" first."""

SCENE_THRESHOLD = 0.3
"""Measured: motion within a shot gives up to 0.24 (fast pans), unrelated shots give 0.36 and more.

The table in docs/media.md has both.
"""
