"""Reads HDR pictures, which Pillow takes for SDR: PNG with a cICP chunk, AVIF and HEIC."""

from __future__ import annotations

import re
from fractions import Fraction
from io import BytesIO
from pathlib import Path

from .chosen_streams import picture_stream
from .colour import colour_of
from .frame_pixels import Look, flat
from .frame_stream import Frame
from .hdr import require_readable
from .hdr_frames import to_sdr
from .heif_picture import hdr_heif, heif_colour
from .open_media import open_media

__all__ = ["hdr_picture"]

_HEAD_BYTES = 1 << 16
# The transfer is PQ (16) or HLG (18): PNG third edition section 11.3.2.6, ISO/IEC 14496-12 section 12.1.5.
_STATED = re.compile(rb"\x00\x00\x00\x04cICP.[\x10\x12]|ftypavi[fs].*colrnclx..\x00[\x10\x12]", re.DOTALL)


def hdr_picture(file: Path | bytes, name: str) -> Frame | None:
    """Return an HDR picture in SDR, (H, W, 3), not turned, with white behind transparency. None for others.

    name: of the file. Raises MediaError for colours that cannot be read, av.FFmpegError for a damaged file.
    """
    if (heif := heif_colour(file)) is not None:
        require_readable(heif, name)
        return hdr_heif(file, heif)
    with BytesIO(file) if isinstance(file, bytes) else file.open("rb") as opened:
        if not _STATED.search(opened.read(_HEAD_BYTES)):
            return None
    with open_media(file) as container:
        stream = picture_stream(container, name)
        colour = colour_of(stream, file)
        if colour.hdr is None:
            return None  # its HDR version is stated beside it
        require_readable(colour, name)
        return flat(next(container.decode(stream)), Look(Fraction(1), from_hdr=to_sdr(colour, file)))
