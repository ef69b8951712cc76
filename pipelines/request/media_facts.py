"""Holds the measured facts about the input files of a request. A check itself opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import RequestError

__all__ = ["NOTHING_KNOWN", "ClipLength", "MediaFacts"]


@dataclass(frozen=True)
class ClipLength:
    """How long a video or a sound is. frames: of the file, at its own rate; 0 for a sound."""

    frames: int
    seconds: float


@dataclass(frozen=True)
class MediaFacts:
    """Facts about input files. None means unknown, or that there is no such input.

    size:    (width, height) in pixels of the input whose shape the result has.
    frames:  number of frames of the video at the rate of the request. Counted up to one more than requested.
    seconds: length of the sound.
    sha256:  {field: hash of its file, in hex}.
    notes:   {field: what this machine changes in its file when it reads it}, such as the colours of HDR.
    lengths: {field or entry such as video_urls[0]: its length}, for the price at a provider.

    Raises RequestError on `media_size` for a size below 1.
    """

    size: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float | None = None
    sha256: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    lengths: Mapping[str, ClipLength] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise RequestError.of("media_size", f"got {self.size}", "give width and height in pixels")

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON values, without the notes, which become findings, and the lengths."""
        size = None if self.size is None else list(self.size)
        return {"size": size, "frames": self.frames, "seconds": self.seconds, "sha256": dict(self.sha256)}


NOTHING_KNOWN = MediaFacts()
