"""Reads what a video says about its colours: its ITU-T H.273 codes, HDR side data and Dolby Vision."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.sidedata.sidedata import SideData, Type

from .dolby_vision import DolbyVision, dolby_vision_of
from .tone_map import HdrTransfer

__all__ = [
    "UNKNOWN",
    "Colour",
    "ContentLight",
    "MasteringDisplay",
    "coded",
    "codes_of",
    "colour_of",
    "content_light",
    "mastering_display",
]

# ITU-T H.273 tables 2 to 4, in the words of ffprobe. Other codes are "unknown".
_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020", 11: "smpte431", 12: "smpte432"}
_TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    8: "linear",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
_MATRICES = {0: "gbr", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp"}
_RANGES = {1: "tv", 2: "pc"}
UNKNOWN = "unknown"

_HDR: Mapping[str, HdrTransfer] = {"smpte2084": "PQ", "arib-std-b67": "HLG"}


@dataclass(frozen=True)
class Colour:
    """The colours of a video stream, in the words of ffprobe."""

    range: str = UNKNOWN
    matrix: str = UNKNOWN
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    dolby_vision: DolbyVision | None = None

    @property
    def hdr(self) -> HdrTransfer | None:
        """The HDR transfer function. None for SDR."""
        return _HDR.get(self.transfer)


@dataclass(frozen=True)
class MasteringDisplay:
    """The screen on which a video was graded, SMPTE ST 2086.

    red, green, blue, white: x and y. least, most: its luminance in cd/m2.
    """

    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]
    white: tuple[float, float]
    least: float
    most: float


@dataclass(frozen=True)
class ContentLight:
    """Light of a video in cd/m2, CTA-861.3. most: of a pixel. average: of the brightest frame."""

    most: int
    average: int


def colour_of(stream: av.VideoStream, content: Path | bytes) -> Colour:
    """Return what a stream says. content: its file, which is open."""
    context = stream.codec_context
    codes = (context.color_range or 0, context.colorspace, context.color_primaries, context.color_trc)
    return replace(coded(*map(int, codes)), dolby_vision=dolby_vision_of(stream, content))


def coded(colour_range: int, matrix: int, primaries: int, transfer: int) -> Colour:
    """Return the colours of these codes. colour_range: 1 limited, 2 full."""
    return Colour(
        _RANGES.get(colour_range, UNKNOWN),
        _MATRICES.get(matrix, UNKNOWN),
        _PRIMARIES.get(primaries, UNKNOWN),
        _TRANSFERS.get(transfer, UNKNOWN),
    )


def codes_of(hdr: Colour) -> tuple[int, int, int, int]:
    """Return range, matrix, primaries and transfer of HDR as codes. What is not stated is as usual in HDR."""
    return (
        _code(_RANGES, hdr.range, 1),
        _code(_MATRICES, hdr.matrix, 9),
        _code(_PRIMARIES, hdr.primaries, 9),
        _code(_TRANSFERS, hdr.transfer, 16),
    )


def _code(words: Mapping[int, str], said: str, usual: int) -> int:
    return next((code for code, word in words.items() if word == said), usual)


def mastering_display(frame: av.VideoFrame) -> MasteringDisplay | None:
    """Return the screen that a frame names."""
    data = _side_data(frame, Type.MASTERING_DISPLAY_METADATA)
    if data is None:
        return None
    # AVMasteringDisplayMetadata, libavutil/mastering_display_metadata.h: ten fractions and two flags.
    *parts, has_primaries, has_luminance = struct.unpack("22i", bytes(data))
    x = [parts[at] / (parts[at + 1] or 1) for at in range(0, 20, 2)]
    if not (has_primaries and has_luminance):
        return None
    return MasteringDisplay((x[0], x[1]), (x[2], x[3]), (x[4], x[5]), (x[6], x[7]), x[8], x[9])


def content_light(frame: av.VideoFrame) -> ContentLight | None:
    """Return the light levels that a frame names."""
    data = _side_data(frame, Type.CONTENT_LIGHT_LEVEL)
    # AVContentLightMetadata, the same header.
    return None if data is None else ContentLight(*struct.unpack("2I", bytes(data)[:8]))


def _side_data(frame: av.VideoFrame, kind: Type) -> SideData | None:
    try:
        found: SideData | None = frame.side_data.get(kind)
        return found
    except ValueError:  # PyAV lacks a kind that libav has, such as the EXIF of a JPEG, and then reads none
        return None
