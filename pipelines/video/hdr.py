"""Says which colours can be read, and what readers do with HDR and Dolby Vision."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import av

from ..errors import MediaError
from .chosen_streams import picture_stream
from .colour import UNKNOWN, Colour, colour_of
from .exr_picture import EXR_NOTE, is_exr
from .heif_picture import heif_colour
from .open_media import open_media
from .tone_map import PRIMARIES, WHITE_NITS

__all__ = ["hdr_note", "note_on_colours", "require_readable", "unreadable"]

_MATRICES = ("bt2020nc", "bt709", "gbr")


def require_readable(colour: Colour, name: str) -> None:
    """Raise MediaError for colours that are not read here. name: of the file."""
    if reason := unreadable(colour):
        raise MediaError(f"cannot read the colours of {name}: {reason}")


def unreadable(colour: Colour) -> str:
    """Return why colours are not read here, and what works. Empty if they are."""
    dolby, hdr = colour.dolby_vision, colour.hdr
    if dolby is not None and dolby.needs_metadata:
        return f"{dolby} has its picture in IPT, which only Dolby's decoders read; HDR10, HLG and SDR work"
    if colour.transfer == "linear":
        return "linear light, as in EXR, is read of pictures alone; videos of BT.709, sRGB, HLG and PQ work"
    if hdr is not None and colour.matrix not in (*_MATRICES, UNKNOWN):
        return f"HDR with the matrix {colour.matrix}; {', '.join(_MATRICES)} work"
    if hdr is not None and colour.primaries not in (*PRIMARIES, UNKNOWN):
        return f"HDR with the primaries {colour.primaries}; {', '.join(PRIMARIES)} work"
    return ""


def hdr_note(colour: Colour, *, kept: bool = False) -> str:
    """Return what readers do with HDR or Dolby Vision. Empty for other colours. kept: HDR stays."""
    notes = []
    if colour.dolby_vision is not None:
        notes.append(f"{colour.dolby_vision}: its base layer is read, without Dolby's metadata")
    if colour.hdr is not None and not kept:
        notes.append(f"HDR ({colour.hdr}) is tone-mapped to SDR, with white at {WHITE_NITS:g} cd/m2")
    return "; ".join(notes)


def note_on_colours(content: Path | bytes) -> str:
    """Return `hdr_note` of a video or a picture, or what is done with an EXR.

    Empty if it cannot be opened: its reader says why.
    """
    with suppress(OSError, av.FFmpegError, MediaError):
        if is_exr(content):
            return EXR_NOTE
        if (heif := heif_colour(content)) is not None:
            return hdr_note(heif)
        with open_media(content) as container:
            return hdr_note(colour_of(picture_stream(container, ""), content))
    return ""
