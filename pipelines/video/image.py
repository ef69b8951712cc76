"""Resizes and writes still images. Keeps their aspect ratio and tags."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor
from torch.nn import functional

from ..errors import MediaError
from ..files.staging import staged_file

__all__ = ["IMAGE_FORMATS", "fit", "image_bytes", "over_white", "write_image"]

IMAGE_FORMATS = ("png", "jpeg")
_JPEG_QUALITY = 95  # above it files grow faster than they improve (libjpeg-turbo's documentation)
# ComfyUI reads the prompt from the first, other tags from the second and below.
_EXIF_MODEL, _EXIF_MAKE = 0x0110, 0x010F


def fit(frames: Tensor, width: int, height: int) -> Tensor:
    """Resize (T, H, W, 3) in [0, 1] to cover (T, height, width, 3), and crop in the centre.

    Bicubic with antialiasing. Frames of that size are returned unchanged.
    """
    old_height, old_width = frames.shape[1:3]
    if (old_width, old_height) == (width, height):
        return frames
    scale = max(width / old_width, height / old_height)
    covering = [
        max(side, math.ceil(old * scale - 1e-6)) for side, old in ((height, old_height), (width, old_width))
    ]
    resized = functional.interpolate(
        frames.movedim(-1, 1).float(), size=covering, mode="bicubic", antialias=True, align_corners=False
    )
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    cropped = resized[:, :, top : top + height, left : left + width]
    return cropped.clamp(0, 1).movedim(1, -1).contiguous()


def image_bytes(pixels: np.ndarray[Any, Any], kind: str, tags: Mapping[str, str]) -> bytes:
    """Return the bytes of an image file of `pixels` (H, W, 3) uint8, with `tags` inside. kind: one of
    IMAGE_FORMATS.

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


def over_white(pixels: Tensor) -> Tensor:
    """Convert (..., H, W, 3 or 4) in [0, 1] to (..., H, W, 3), with white behind transparency."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + (1 - alpha)
