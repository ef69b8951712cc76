"""Reads HEIC and HEIF pictures through pillow-heif, which Pillow needs, and those in HDR as SDR."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import __version__ as pillow_version
from PIL import features

from ..errors import MediaError
from .colour import Colour, coded
from .frame_pixels import over_background
from .frame_stream import Frame
from .hdr_frames import picture_to_sdr

__all__ = ["allow_heif", "hdr_heif", "heif_colour"]

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # ISO/IEC 23008-12
_HEAD_BYTES = 64  # more than the brands of any writer
_WHITE = (255, 255, 255)
_MOST = 65535


def allow_heif(file: Path | bytes, name: str) -> None:
    """Let Pillow read HEIC and HEIF. Raises MediaError with a hint where it cannot read a HEIC or AVIF."""
    brands = _brands(file)
    if b"avif" in brands and "avif" not in features.get_supported_modules():
        raise MediaError(
            f"{name}: an AVIF picture, which Pillow {pillow_version} cannot read as it is installed here; "
            "`pip install -U pillow` (11.3 or newer) makes it readable, or convert it to PNG"
        )
    if not _is_heif(file):
        return
    if find_spec("pillow_heif") is None:
        raise MediaError(
            f"{name}: a HEIC picture; `pip install pillow-heif` makes it readable, or convert it to JPEG"
        )
    import pillow_heif

    pillow_heif.register_heif_opener()


def heif_colour(file: Path | bytes) -> Colour | None:
    """Return what a HEIC picture says of its colours. None for other files, and without pillow-heif."""
    if not _is_heif(file) or find_spec("pillow_heif") is None:
        return None
    return _colour(_opened(file))


def hdr_heif(file: Path | bytes, colour: Colour) -> Frame | None:
    """Return a HEIC picture in PQ or HLG as SDR, (H, W, 3), upright, with white behind transparency.

    colour: from `heif_colour`; readable, see `require_readable`. None for other colours.
    """
    if colour.hdr is None:
        return None
    heif = _opened(file)
    levels, most = np.asarray(heif), (1 << heif.info["bit_depth"]) - 1
    signal = (levels[..., :3] * np.float32(_MOST / most) + np.float32(0.5)).astype(np.uint16)
    sdr = picture_to_sdr(signal, colour)
    if not heif.has_alpha:
        return sdr
    alpha = (levels[..., 3:] * np.float32(255 / most) + np.float32(0.5)).astype(np.uint8)
    return over_background(np.concatenate([sdr, alpha], axis=-1), _WHITE)


def _is_heif(file: Path | bytes) -> bool:
    brands = _brands(file)
    return brands[:4] in _BRANDS and b"avif" not in brands


def _brands(file: Path | bytes) -> bytes:
    """Return the brands that a file of ISO/IEC 14496-12 states, one after another. Empty for other files."""
    if isinstance(file, bytes):
        head = file[:_HEAD_BYTES]
    else:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    return head[8 : int.from_bytes(head[:4], "big")] if head[4:8] == b"ftyp" else b""


def _opened(file: Path | bytes) -> Any:
    """Open with all the bits that the picture has; nothing is decoded yet. Raises MediaError."""
    import pillow_heif

    source = BytesIO(file) if isinstance(file, bytes) else file
    try:
        return pillow_heif.open_heif(source, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    except Exception as error:  # it raises many kinds
        raise MediaError(f"not a readable HEIC picture: {error}") from error


def _colour(heif: Any) -> Colour:
    stated = heif.info.get("nclx_profile")
    if not stated:
        return Colour()
    return coded(
        1 + stated["full_range_flag"],
        stated["matrix_coefficients"],
        stated["color_primaries"],
        stated["transfer_characteristics"],
    )
