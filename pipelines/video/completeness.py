"""Finds out whether a video file is whole, without decoding it."""

from __future__ import annotations

from pathlib import Path

import av

from ..errors import MediaError
from .chosen_streams import picture_stream
from .open_media import open_media

__all__ = ["require_whole"]


def require_whole(content: Path | bytes) -> None:
    """Raise MediaError if a video file ends before the frames that its index lists, as broken downloads do.

    MP4 and MOV have such an index. Of other containers the end cannot be known.
    """
    name = "the video" if isinstance(content, bytes) else content.name
    try:
        with open_media(content) as container:
            stream = picture_stream(container, name)
            listed = stream.frames
            packets = container.demux(stream) if listed else ()
            found = sum(packet.size > 0 and not packet.is_corrupt for packet in packets)
    except av.error.FFmpegError as error:
        raise MediaError(f"{name} cannot be read to its end: {error.strerror}; it may be cut off") from error
    if found < listed:
        raise MediaError(f"{name} is cut off: it has {found} of the {listed} frames that it lists")
