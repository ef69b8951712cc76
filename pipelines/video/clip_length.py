"""Measures how long input videos and sounds are, without decoding them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import av

from ..errors import MediaError, RequestError
from ..request.base import WanRequest
from ..request.field_rows import media_named, medium_of
from ..request.media_facts import ClipLength
from ..request.web_address import is_https
from .chosen_streams import picture_stream
from .local_file import FindFile, any_file, file_in_data_uri
from .open_media import exact_fraction, open_media

__all__ = ["clip_length", "known_lengths"]


def clip_length(content: Path | bytes) -> ClipLength:
    """Return the length of a video by the times in its file. Raises MediaError if they cannot be read."""
    try:
        with open_media(content) as container:
            stream = picture_stream(container, "the video")
            base = exact_fraction(stream.time_base)
            spans = [
                (packet.pts, packet.pts + (packet.duration or 0))
                for packet in container.demux(stream)
                if packet.size and packet.pts is not None and not packet.is_discard
            ]
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read the length of the video: {error.strerror or error}") from error
    if not spans or base is None:
        raise MediaError("the video says nothing about when its frames appear")
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return ClipLength(len(spans), float((last - first) * base))


def known_lengths(
    request: WanRequest, media: Mapping[str, Path] = MappingProxyType({}), find: FindFile = any_file
) -> dict[str, ClipLength]:
    """Return {field or entry: length} of the videos on this machine that `request` names.

    media: {field or entry: the file written for a connected medium}. Leaves out what cannot be measured:
    an address, or a file that something else will refuse with its reason.
    """
    lengths = {}
    for name, text in media_named(dict(request)).items():
        if medium_of(name) != "video" or (name not in media and is_https(text)):
            continue
        try:
            lengths[name] = clip_length(_content(name, text, media, find))
        except (MediaError, RequestError):
            continue
    return lengths


def _content(name: str, text: str, media: Mapping[str, Path], find: FindFile) -> Path | bytes:
    if name in media:
        return media[name]
    return file_in_data_uri(text, name).content if text[:5].lower() == "data:" else find(text, name)
