"""Reads still images: upright, in sRGB, over a background, and shrunk where they are huge.

The pixels are converted in strips, so that a picture needs little more memory than its file unpacked.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ..device.late_torch import torch
from ..errors import MediaError
from .exr_picture import exr_picture, is_exr
from .hdr_picture import hdr_picture
from .heif_picture import allow_heif

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MOST_PIXELS", "image_pixels", "read_image"]

MOST_PIXELS = 178_956_970
"""Pillow's own limit, twice Image.MAX_IMAGE_PIXELS: a small file can hold a picture that fills the memory."""

_ENOUGH_PIXELS = 2**24  # larger pictures are shrunk by whole factors; no video frame has as many
_STRIP_ROWS = 256
_GREY_16 = ("I;16", "I;16B", "I;16L", "I")
_ORIENTATION = 0x0112  # EXIF 2.32, 4.6.4

_Pixels = NDArray[np.float32]  # (H, W, 3), 0 to 1

_TURNS: dict[int, Callable[[Any], Any]] = {
    2: np.fliplr,
    3: partial(np.rot90, k=2),
    4: np.flipud,
    5: partial(np.swapaxes, axis1=0, axis2=1),
    6: partial(np.rot90, k=-1),
    7: lambda pixels: np.rot90(np.swapaxes(pixels, 0, 1), 2),
    8: np.rot90,
}


def read_image(file: Path | bytes) -> Tensor:
    """Read an image as `image_pixels` does, as a tensor."""
    return torch.from_numpy(image_pixels(file))


def image_pixels(file: Path | bytes) -> _Pixels:
    """Read an image as (H, W, 3) float32 in [0, 1], rotated as its EXIF says, with white behind transparency.

    An ICC profile and the linear light of EXR are converted to sRGB, and HDR is tone-mapped. A picture of
    more than 16 million pixels is shrunk by a whole factor. Raises MediaError that names the file if it is
    not a readable image.
    """
    name = "the image" if isinstance(file, bytes) else str(file)
    try:
        if is_exr(file):
            light = exr_picture(file, name, MOST_PIXELS)
            return _means(light, _shrink(light.shape[1], light.shape[0]))
        with _opened(file, name) as opened:
            if opened.format == "JPEG":  # which can be unpacked smaller at once
                shrink = _shrink(*opened.size)
                opened.draft(None, (opened.width // shrink, opened.height // shrink))
            hdr = hdr_picture(file, name)
            shown = opened if hdr is None else Image.fromarray(hdr)
            pixels = np.concatenate([*_strips(shown, _shrink(*shown.size), name)])
            pixels = _TURNS.get(opened.getexif().get(_ORIENTATION, 1), np.asarray)(pixels)
    except MediaError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors
        raise MediaError(f"{name}: not a readable image: {error}") from error
    return np.ascontiguousarray(pixels)


@contextmanager
def _opened(file: Path | bytes, name: str) -> Iterator[Image.Image]:
    allow_heif(file, name)
    source = BytesIO(file) if isinstance(file, bytes) else file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is stricter
            opened = Image.open(source)
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    with opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise _too_large(name)
        yield opened


def _too_large(name: str) -> MediaError:
    return MediaError(f"{name}: more than {MOST_PIXELS // 10**6} million pixels; give a smaller picture")


def _shrink(width: int, height: int) -> int:
    """Return the factor by which to shrink both sides."""
    return min(math.ceil(math.sqrt(width * height / _ENOUGH_PIXELS)), width, height)


def _strips(image: Image.Image, shrink: int, name: str) -> Iterator[_Pixels]:
    """Yield the picture from the top, each pixel the mean of `shrink` x `shrink` pixels."""
    rows = max(_STRIP_ROWS // shrink, 1) * shrink
    # Whole cells only: up to `shrink` - 1 pixels at the right and lower edge are left out.
    width, height = (side // shrink * shrink for side in image.size)
    to_rgb = _converter(image, name)
    for top in range(0, height, rows):
        yield _means(to_rgb(image.crop((0, top, width, min(top + rows, height)))), shrink)


def _means(pixels: _Pixels, shrink: int) -> _Pixels:
    """Return the means of whole cells of `shrink` x `shrink` pixels."""
    if shrink == 1:
        return pixels
    down, across = (side // shrink for side in pixels.shape[:2])
    cells = pixels[: down * shrink, : across * shrink].reshape(down, shrink, across, shrink, 3)
    return np.asarray(cells.mean((1, 3), dtype=np.float32))


def _converter(image: Image.Image, name: str) -> Callable[[Image.Image], _Pixels]:
    """Return the conversion from strips of `image` to sRGB."""
    if image.mode == "F":
        return lambda strip: _grey(_require_scaled(np.asarray(strip, np.float32), name))
    if image.mode in _GREY_16:  # which Pillow would clip instead of scale
        return lambda strip: _grey(np.asarray(strip, np.float32) / np.float32(65535))
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    plain = "RGBA" if has_alpha else "CMYK" if image.mode == "CMYK" else "RGB"
    to_srgb = _profile_conversion(image, plain)

    def convert(strip: Image.Image) -> _Pixels:
        strip = strip.convert(plain)
        if to_srgb is not None:
            strip = ImageCms.applyTransform(strip, to_srgb) or strip  # None only where it works in place
        pixels = np.asarray(strip if has_alpha else strip.convert("RGB")).astype(np.float32) / np.float32(255)
        return _over_white(pixels) if has_alpha else pixels

    return convert


def _profile_conversion(image: Image.Image, mode: str) -> Any | None:
    """Return the conversion from the ICC profile of `image` to sRGB, None if it has none or it fits not."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    if source.profile.xcolor_space.strip() != ("CMYK" if mode == "CMYK" else "RGB"):
        return None  # a grey profile: its curve is close to that of sRGB
    if (source.profile.profile_description or "").startswith("sRGB"):
        return None  # a conversion would only round
    out = "RGB" if mode == "CMYK" else mode
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, out)


def _require_scaled(pixels: _Pixels, name: str) -> _Pixels:
    """Return `pixels`. Raises MediaError for numbers beyond 0 to 1, which nobody knows how to show."""
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 1):  # also for NaN
        raise MediaError(
            f"{name}: its pixels are numbers from {low:g} to {high:g}; scale them to 0 to 1, or save 16 bits"
        )
    return pixels


def _grey(pixels: NDArray[Any]) -> _Pixels:
    return np.repeat(pixels[..., None].clip(0, 1), 3, axis=-1)


def _over_white(rgba: _Pixels) -> _Pixels:
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return colour * alpha + (1 - alpha)
