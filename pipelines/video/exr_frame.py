"""Encodes frames as OpenEXR pictures: linear light, with the primaries of BT.709, which EXR assumes."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt

from .frame_stream import Frame
from .frame_writer import FileSpec

__all__ = ["ExrEncoder", "linear"]

_ORDER = (1, 2, 0, 3)  # libav's planes are green, blue, red, alpha
# The curve of sRGB, IEC 61966-2-1, for each level of 8 bits.
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear(frame: Frame) -> npt.NDArray[np.float32]:
    """Return the frame in linear light, (H, W, 3 or 4), 0 to 1. Colours are multiplied by alpha."""
    colours: npt.NDArray[np.float32] = _LINEAR[frame[..., :3]]
    if frame.shape[-1] == 3:
        return colours
    alpha = frame[..., 3:].astype(np.float32) / np.float32(255)
    return np.concatenate([colours * alpha, alpha], axis=-1)


class ExrEncoder:
    """Encodes the frames of a sequence."""

    def __init__(self, spec: FileSpec) -> None:
        self._context = cast(av.VideoCodecContext, av.CodecContext.create("exr", "w"))
        self._context.width, self._context.height = spec.width, spec.height
        self._context.pix_fmt, self._context.options = spec.form.pix_fmt, dict(spec.options)
        self._context.time_base = Fraction(1)

    def encode(self, frame: Frame, index: int) -> bytes:
        """Return the file of one frame."""
        pixels = linear(frame)
        made = av.VideoFrame(frame.shape[1], frame.shape[0], self._context.pix_fmt)
        for plane, channel in zip(made.planes, _ORDER, strict=False):  # without alpha there are three
            rows = np.zeros((plane.height, plane.line_size // 4), np.float32)
            rows[:, : plane.width] = pixels[..., channel]
            plane.update(rows.tobytes())
        made.pts, made.time_base = index, Fraction(1)
        return b"".join(bytes(packet) for packet in self._context.encode(made))
