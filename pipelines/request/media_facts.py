"""What a caller measured of the files that a request names. A check opens none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ..errors import RequestError

__all__ = ["NOTHING_KNOWN", "MediaFacts"]


@dataclass(frozen=True)
class MediaFacts:
    """None means unknown, or that the request has no such input.

    size:    (width, height) in pixels of the input whose shape the result keeps.
    frames:  of the video, at the rate the request reads it; counting stops one past the number asked for.
    seconds: of the sound.
    sha256:  {field: the hash of its file, in hex}.
    """

    size: tuple[int, int] | None = None
    frames: int | None = None
    seconds: float | None = None
    sha256: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise RequestError.of("media_size", f"got {self.size}", "give width and height in pixels")

    def as_dict(self) -> dict[str, Any]:
        """JSON-safe."""
        size = None if self.size is None else list(self.size)
        return {"size": size, "frames": self.frames, "seconds": self.seconds, "sha256": dict(self.sha256)}


NOTHING_KNOWN = MediaFacts()
