"""Converts a decoded frame to what a player shows: upright RGB with square pixels, over a background."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
import numpy as np
from PIL import ImageColor

from ..errors import RequestError
from .frame_stream import Frame
from .hdr_frames import FromHdr
from .pixel_layout import INTERPOLATED, LEFT, SMOOTH, in_layout

__all__ = ["WHITE", "Background", "Look", "background_of", "flat", "over_background", "rgb", "shown_size"]

WHITE = (255, 255, 255)
Background: TypeAlias = tuple[int, int, int] | None

_HD_LINES = 720  # without a colour tag, players assume BT.709 from this height on, BT.601 below
# Matrix coefficients of a file (ITU-T H.273 table 4) in the words of libav's filter `scale`.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_FULL = 2  # AVColorRange


@dataclass(frozen=True)
class Look:
    """What a file says about all its frames, and what is wished.

    pixel_aspect: width of a stored pixel by its height.
    background:   RGB, 0 to 255, behind transparency. None keeps it.
    from_hdr:     the conversion of HDR frames. None for SDR.
    siting:       where a colour that several pixels share belongs, see `pixel_layout`.
    """

    pixel_aspect: Fraction = Fraction(1)
    background: Background = WHITE
    from_hdr: FromHdr | None = None
    siting: str = LEFT


def background_of(text: str) -> tuple[int, int, int]:
    """Return the RGB of a colour name or of #rrggbb. Raises RequestError for other text."""
    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        raise RequestError.of("--background", text, "give a colour such as white or #20a0ff") from None
    return colour[0], colour[1], colour[2]


def shown_size(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Return the size with square pixels. The side that is too short grows, so that no detail is lost.

    A side stays even if both were.
    """
    if pixel_aspect == 1:
        return width, height
    step = 2 if width % 2 == height % 2 == 0 else 1
    if pixel_aspect > 1:
        return round(width * pixel_aspect / step) * step, height
    return width, round(height / pixel_aspect / step) * step


def rgb(frame: av.VideoFrame, look: Look) -> Frame:
    """Return the frame as a player shows it, (H, W, 3), or (H, W, 4) where transparency is kept."""
    return _upright(flat(frame, look), frame.rotation)


def flat(frame: av.VideoFrame, look: Look) -> Frame:
    """Return the frame as `rgb`, but not turned upright."""
    has_alpha = (
        look.background is None
        or frame.format.name == "pal8"
        or any(part.is_alpha for part in frame.format.components)
    )
    size = shown_size(frame.width, frame.height, look.pixel_aspect)
    if look.from_hdr is None:
        pixels = _converted(frame, look, "rgba" if has_alpha else "rgb24", size)
    else:
        pixels = look.from_hdr(frame, size)
        if has_alpha:
            pixels = np.dstack((pixels, _converted(frame, look, "rgba", size)[..., 3]))
    if has_alpha and look.background is not None:
        pixels = over_background(pixels, look.background)
    return pixels


def over_background(rgba: Frame, background: tuple[int, int, int]) -> Frame:
    """Lay (H, W, 4) with straight alpha over a colour. Returns (H, W, 3), rounded to the nearest level."""
    alpha = rgba[..., 3:].astype(np.uint32)
    mixed = rgba[..., :3] * alpha + np.array(background, np.uint32) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _converted(frame: av.VideoFrame, look: Look, pix_fmt: str, size: tuple[int, int]) -> Frame:
    options = {"flags": INTERPOLATED, "out_range": "pc"}
    if size != (frame.width, frame.height):
        options |= {"w": str(size[0]), "h": str(size[1]), "flags": SMOOTH}
    if not frame.format.is_rgb:
        options |= {
            "in_color_matrix": _matrix(frame),
            "in_range": "pc" if frame.color_range == _FULL else "tv",
            "in_chroma_loc": look.siting,
        }
    return np.asarray(in_layout(frame, pix_fmt, options).to_ndarray(), np.uint8)


def _matrix(frame: av.VideoFrame) -> str:
    usual = "bt709" if frame.height >= _HD_LINES else "bt601"
    return _MATRICES.get(int(frame.colorspace), usual)


def _upright(frame: Frame, degrees: int) -> Frame:
    """Rotate a frame. degrees: counterclockwise, as stored in the file."""
    return np.ascontiguousarray(np.rot90(frame, round(degrees / 90))) if degrees else frame
