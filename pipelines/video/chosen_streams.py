"""Chooses the streams of a file: the picture that a player shows, and the sound that it plays."""

from __future__ import annotations

import av
from av.container import InputContainer
from av.stream import Disposition

from ..errors import MediaError
from .open_media import require_codec

__all__ = ["picture_stream", "sound_stream"]


def picture_stream(container: InputContainer, name: str) -> av.VideoStream:
    """Return the first video stream, where album art does not count.

    name: of the file. Raises MediaError if there is none, or no decoder for it.
    """
    streams = container.streams.video
    moving = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    if not moving:
        art = " (a picture in it is album art)" if streams else ""
        raise MediaError(f"{name} has no video stream in it{art}")
    require_codec(moving[0], name)
    return moving[0]


def sound_stream(container: InputContainer, name: str, track: int = 0) -> av.AudioStream | None:
    """Return a sound of the file, None if it has none. track: its number; 0 is the first.

    Raises MediaError if there is no sound of that number, or no decoder for it.
    """
    sounds = container.streams.audio
    if not sounds and not track:
        return None
    if track >= len(sounds):
        found = "no sound" if not sounds else f"{len(sounds)} sounds, numbered from 0"
        raise MediaError(f"audio track {track}: {name} has {found}")
    require_codec(sounds[track], name)
    return sounds[track]
