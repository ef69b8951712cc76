"""Lists the file formats of a video, and which codecs and sounds each holds.

MP4 plays everywhere, WebM on web pages, MOV in editing programs. MKV is lossless. WebP and GIF are moving
thumbnails. PNG and EXR hold one frame each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from ..errors import MediaError

__all__ = ["CONTAINERS", "ODD", "Container", "container_of", "storable"]

ODD = ("pad", "crop", "refuse")
"""What can be done with an odd side: repeat its last pixels once, leave them out, or nothing."""

_TICKS = 100  # time units per frame of an MP4, or fewer, so that its duration is exact
_MOST_TICKS = 2**31 - 1  # time units per second: libav stores them as signed 32 bits


@dataclass(frozen=True)
class Container:
    """One file format.

    name:   its suffix. muxer: libav's name of it. Empty if it holds one frame, and a video is a sequence of
            files.
    codecs: names of the codecs that it holds, the usual one first.
    sound:  usual encoder of its sound. Empty if the format has no sound.
    holds_tags: whether metadata fits in.
    """

    name: str
    muxer: str
    codecs: tuple[str, ...]
    sound: str = ""
    holds_tags: bool = True

    def muxer_options(self, fps: Fraction) -> dict[str, str]:
        if self.name in ("mp4", "mov"):
            return {
                "movflags": "use_metadata_tags+faststart",  # any tag name is kept; index before the frames
                "movie_timescale": str(_TICKS * fps.numerator),  # the default, 1000, would round the duration
            }
        return {"loop": "0"} if self.name == "webp" else {}


_ALL = (
    Container("mp4", "mp4", ("h264", "h265", "av1"), "aac"),
    Container("webm", "webm", ("vp9", "av1"), "libopus"),
    Container("mkv", "matroska", ("ffv1", "h264", "h265", "av1", "vp9"), "flac"),
    Container("mov", "mov", ("prores", "prores-4444", "h264", "h265"), "aac"),
    Container("webp", "webp", ("webp",)),
    Container("gif", "gif", ("gif",), holds_tags=False),
    Container("png", "", ("png",)),
    Container("exr", "", ("exr",), holds_tags=False),
)
CONTAINERS: Mapping[str, Container] = MappingProxyType({container.name: container for container in _ALL})
"""By name, the most common first."""


def container_of(path: Path) -> Container:
    """Return the format for the suffix of `path`. Raises MediaError for an unknown suffix."""
    name = path.suffix.lower().removeprefix(".")
    if name not in CONTAINERS:
        raise MediaError(
            f"{path}: cannot write {path.suffix or 'a file without a suffix'}; {_choices()} work"
        )
    return CONTAINERS[name]


def storable(fps: Fraction) -> Fraction:
    """Return `fps`, or the nearest rate that a file can hold.

    Videos from phones have varying rates, with averages such as 54870000/1829159.
    """
    most = _MOST_TICKS // _TICKS
    if max(fps.numerator, fps.denominator) <= most:
        return fps
    return fps.limit_denominator(max(int(most / max(fps, Fraction(1))) - 1, 1))


def _choices() -> str:
    return ", ".join(f".{name}" for name in CONTAINERS)
