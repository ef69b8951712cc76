"""Finds out whether a file is Dolby Vision, and whether its picture can be shown without Dolby's metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import av

__all__ = ["DolbyVision", "dolby_vision_of"]

# "Dolby Vision Streams Within the ISO Base Media File Format" 2.4, section 3.2: two bytes of version, 7 bits
# of profile, 6 of level, 3 flags, 4 of compatibility.
_RECORD = rb"..(.).(.)"
_IN_MP4 = re.compile(rb"\x00\x00\x00\x20dv[cvw]C" + _RECORD, re.DOTALL)
_IN_MATROSKA = re.compile(rb"\x41\xe7\x84dv[cvw]C\x41\xed." + _RECORD, re.DOTALL)  # RFC 9559, BlockAddIDType
_TRACKS_BYTES = 1 << 20  # of a Matroska file; its tracks are described before the first frame
_CODECS = ("hevc", "h264", "av1")
_OWN_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")  # sample entries of Dolby's own


@dataclass(frozen=True)
class DolbyVision:
    """profile: its number; None if the file does not say it. compatibility: 0 if no other player shows it."""

    profile: int | None
    compatibility: int = 0

    def __str__(self) -> str:
        return "Dolby Vision" if self.profile is None else f"Dolby Vision profile {self.profile}"

    @property
    def needs_metadata(self) -> bool:
        """Whether the picture itself is in IPT, which only a Dolby Vision decoder turns into colours."""
        return self.profile == 5 or (self.profile in (None, 10, 20) and not self.compatibility)


def dolby_vision_of(stream: av.VideoStream, content: Path | bytes) -> DolbyVision | None:
    """Return the Dolby Vision configuration of a stream of `content`, an open file. None if it has none."""
    context = stream.codec_context
    if context.codec.canonical_name not in _CODECS:
        return None
    found = _configuration(stream.container.format.name, content)
    if found is None and context.codec_tag in _OWN_TAGS:
        return DolbyVision(None)
    return found


def _configuration(container: str, content: Path | bytes) -> DolbyVision | None:
    with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        if "mp4" in container:
            parts, pattern = _movie_boxes(file), _IN_MP4
        elif "matroska" in container:
            parts, pattern = iter([file.read(_TRACKS_BYTES)]), _IN_MATROSKA
        else:
            return None
        for part in parts:
            if record := pattern.search(part):
                return DolbyVision(record[1][0] >> 1, record[2][0] >> 4)
    return None


def _movie_boxes(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of each `moov` box, which describes the tracks. ISO/IEC 14496-12 section 4.2."""
    while len(head := file.read(8)) == 8:
        size, kind, read = int.from_bytes(head[:4], "big"), head[4:], 8
        if size == 1:
            size, read = int.from_bytes(file.read(8), "big"), 16
        if kind == b"moov":
            yield file.read(size - read if size else -1)
        elif size < read:  # 0: it reaches to the end of the file
            return
        else:
            file.seek(size - read, 1)
