"""Refuses media files whose end is missing."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from ..errors import MediaError
from .stated_end import stated_end

__all__ = ["require_whole"]


def require_whole(content: Path | bytes) -> None:
    """Raise MediaError if an image, a video or a sound is cut off, as broken downloads are.

    Reads the lengths in the file and decodes nothing. Formats that state none always pass.
    """
    if isinstance(content, bytes):
        name, size, end = "the file", len(content), stated_end(BytesIO(content), len(content))
    else:
        name, size = content.name, content.stat().st_size
        with content.open("rb") as stream:
            end = stated_end(stream, size)
    if end > size:
        raise MediaError(f"{name} is cut off after {size} bytes, before its end; download or copy it again")
