"""Reads, resizes and writes still images. Keeps their orientation, aspect ratio and tags."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor
from torch.nn import functional

from ..errors import MediaError
from ..files.on_disk import discard, move_into_place

__all__ = ["IMAGE_FORMATS", "fit", "image_bytes", "over_white", "read_image", "write_image"]

IMAGE_FORMATS = ("png", "jpeg")
_MOST_PIXELS = 2**28  # a small file can contain a larger image that fills the memory
_JPEG_QUALITY = 95  # above it files grow faster than they improve (libjpeg-turbo's documentation)
# ComfyUI reads the prompt from the first, other tags from the second and below.
_EXIF_MODEL, _EXIF_MAKE = 0x0110, 0x010F


def read_image(file: Path | bytes) -> Tensor:
    """Read an image as (H, W, 3) float32 in [0, 1], rotated as its EXIF says, with white behind transparency.

    Raises MediaError that names the file if it is not a readable image.
    """
    name = "the image" if isinstance(file, bytes) else str(file)
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                raise MediaError(f"{name}: {opened.width}x{opened.height} pixels; give at most 16384x16384")
            upright = ImageOps.exif_transpose(opened)
            pixels = _over_white(upright)
    except MediaError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors
        raise MediaError(f"{name}: not a readable image: {error}") from error
    return torch.from_numpy(pixels)


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
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        move_into_place(part, path)
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror or error}; choose another path") from error
    finally:
        discard(part)


def _ascii(value: str) -> str:
    """Escape letters that EXIF text cannot hold. JSON stays valid JSON."""
    try:
        return json.dumps(json.loads(value))
    except ValueError:
        return value.encode("ascii", "backslashreplace").decode()


def over_white(pixels: Tensor) -> Tensor:
    """Convert (H, W, 3 or 4) in [0, 1] to (H, W, 3), with white behind transparency."""
    if pixels.shape[-1] == 3:
        return pixels
    alpha = pixels[..., 3:]
    return pixels[..., :3] * alpha + (1 - alpha)


def _over_white(image: Image.Image) -> np.ndarray[Any, Any]:
    """Convert an image to (H, W, 3) float32 in [0, 1], with white behind transparency."""
    if image.mode in ("I;16", "I;16B", "I"):  # 16-bit grey, which Pillow would clip instead of scale
        grey = np.asarray(image, np.float32) / 65535
        return np.repeat(grey[..., None].clip(0, 1), 3, axis=-1)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
        colour, alpha = rgba[..., :3], rgba[..., 3:]
        return colour * alpha + (1 - alpha)
    return np.asarray(image.convert("RGB"), np.float32) / 255
