"""Reads OpenEXR pictures: linear light, which is shown with the curve of sRGB."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError
from .chosen_streams import picture_stream
from .open_media import open_media
from .tone_map import PRIMARIES

__all__ = ["EXR_NOTE", "exr_picture", "is_exr"]

EXR_NOTE = "its linear light is shown with the curve of sRGB; what is brighter than 1 becomes white"

_MAGIC = bytes((0x76, 0x2F, 0x31, 0x01))  # openexr.com, "OpenEXR File Layout"
_CHROMATICITIES = b"chromaticities\0chromaticities\0"
_HEAD_BYTES = 1 << 16
_SAME = 0.002  # largest difference of an x or y that files write for the same primaries
_ORDER = (2, 0, 1)  # libav's planes are green, blue, red
_Light: TypeAlias = NDArray[np.float32]  # (H, W, 3)


def is_exr(file: Path | bytes) -> bool:
    return _head(file)[:4] == _MAGIC


def exr_picture(file: Path | bytes, name: str, most_pixels: int) -> _Light:
    """Return an EXR picture as sRGB, (H, W, 3), 0 to 1, with white behind transparency.

    Raises MediaError that names the file: for primaries that are not those of BT.709, numbers that are not
    finite, and more than `most_pixels` pixels; av.FFmpegError for a damaged file.
    """
    _require_usual_primaries(file, name)
    with open_media(file) as container:
        stream = picture_stream(container, name)
        if stream.width * stream.height > most_pixels:
            raise MediaError(
                f"{name}: more than {most_pixels // 10**6} million pixels; give a smaller picture"
            )
        light = _over_white(next(container.decode(stream)))
    if not np.isfinite(light).all():
        raise MediaError(f"{name}: holds NaN or Inf; render or save it again")
    return _srgb(light.clip(0, 1))


def _over_white(frame: av.VideoFrame) -> _Light:
    """Return the light over white. EXR's colours are multiplied by alpha already."""
    numbers = np.float16 if "f16" in frame.format.name else np.float32
    planes = [
        np.frombuffer(plane, numbers).reshape(plane.height, -1)[:, : plane.width].astype(np.float32)
        for plane in frame.planes
    ]
    if len(planes) < 3:
        light, alpha = np.repeat(planes[0][..., None], 3, axis=-1), planes[1:]
    else:
        light, alpha = np.stack([planes[part] for part in _ORDER], axis=-1), planes[3:]
    return light + (1 - alpha[0].clip(0, 1))[..., None] if alpha else light


def _srgb(light: _Light) -> _Light:
    """Return the signal of light from 0 to 1. IEC 61966-2-1."""
    curved = 1.055 * np.maximum(light, np.float32(0.0031308)) ** np.float32(1 / 2.4) - 0.055
    return np.asarray(np.where(light <= 0.0031308, light * np.float32(12.92), curved), np.float32)


def _require_usual_primaries(file: Path | bytes, name: str) -> None:
    """Raise MediaError for stated primaries that are not those of BT.709, which EXR means without a word."""
    head = _head(file)
    at = head.find(_CHROMATICITIES)
    if at < 0:
        return
    # The size of the attribute, then x and y of red, green, blue and white.
    stated = struct.unpack_from("<6f", head, at + len(_CHROMATICITIES) + 4)
    usual = [number for corner in PRIMARIES["bt709"] for number in corner]
    if max(abs(one - other) for one, other in zip(stated, usual, strict=True)) > _SAME:
        red = f"{stated[0]:.3f}, {stated[1]:.3f}"
        raise MediaError(
            f"{name}: its primaries are not those of BT.709 (red at {red}); convert them to BT.709"
        )


def _head(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:_HEAD_BYTES]
    with file.open("rb") as stream:
        return stream.read(_HEAD_BYTES)
