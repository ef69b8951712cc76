"""Writes still images with their tags. Needs no torch, which takes long to import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import MediaError
from ..files.staging import staged_file

__all__ = ["IMAGE_FORMATS", "image_bytes", "write_image"]

IMAGE_FORMATS = ("png", "jpeg")
_JPEG_QUALITY = 95  # above it files grow faster than they improve (libjpeg-turbo's documentation)
# ComfyUI reads the prompt from the first, other tags from the second and below.
_EXIF_MODEL, _EXIF_MAKE = 0x0110, 0x010F


def image_bytes(pixels: np.ndarray[Any, Any], kind: str, tags: Mapping[str, str]) -> bytes:
    """Return the bytes of an image file of `pixels` (H, W, 3) uint8 with `tags` inside. kind: one of
    IMAGE_FORMATS. A PNG may have alpha, (H, W, 4).

    PNG: text chunks, as in ComfyUI. JPEG: EXIF lines `name:value`, as ComfyUI reads them. Raises MediaError
    for another kind.
    """
    if kind not in IMAGE_FORMATS:
        raise MediaError(f"image_format: got {kind!r}; give one of {', '.join(IMAGE_FORMATS)}")
    buffer, image = BytesIO(), Image.fromarray(pixels)
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        for name, value in tags.items():
            chunks.add_itxt(name, value, zip=True) if not value.isascii() else chunks.add_text(name, value)
        image.save(buffer, "PNG", pnginfo=chunks, compress_level=4)
        return buffer.getvalue()
    exif = image.getexif()
    for place, (name, value) in enumerate(sorted(tags.items(), key=lambda tag: tag[0] != "prompt")):
        exif[_EXIF_MODEL if place == 0 else _EXIF_MAKE - place + 1] = f"{name}:{_ascii(value)}"
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0, exif=exif.tobytes() if tags else b"")
    return buffer.getvalue()


def write_image(path: Path, content: bytes) -> None:
    """Write `content` to `path`. Raises MediaError and leaves no partial file if that fails."""
    try:
        with staged_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror or error}; choose another path") from error


def _ascii(value: str) -> str:
    """Escape letters that EXIF text cannot hold. JSON stays valid JSON."""
    try:
        return json.dumps(json.loads(value))
    except ValueError:
        return value.encode("ascii", "backslashreplace").decode()
