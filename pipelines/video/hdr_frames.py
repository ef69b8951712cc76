"""Converts the frames of HDR videos and pictures to SDR, in strips, each of which a thread computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from .chosen_streams import picture_stream
from .colour import UNKNOWN, Colour
from .frame_stream import Frame
from .open_media import exact_fraction, open_media
from .pixel_layout import AVERAGED, INTERPOLATED, LEFT, SMOOTH, UNCHANGED, in_layout
from .tone_map import HdrTransfer, Signal, ToneMap, grey_nits

__all__ = ["FromHdr", "as_it_is", "peak_nits", "picture_to_sdr", "to_sdr"]

FromHdr: TypeAlias = Callable[[av.VideoFrame, tuple[int, int]], Frame]
"""Converts an HDR frame to a size (width, height)."""

_USUAL_PEAK_NITS = 1000.0  # of a clip without a readable key frame: the nominal peak of HLG, BT.2100 table 5
_STEP_S = Fraction(1, 2)  # at least, between two key frames that are measured
_MEASURED_LINES = 480  # larger frames are shrunk first, so that noise and ringing do not count
_STRIP_ROWS = 16  # so that the floats between the steps stay in the processor's cache
_THREADS = min(os.cpu_count() or 1, 8)
_MOST = 65535

# Kr and Kb, H.273 table 4. Where no matrix is stated it is that of BT.2020, the usual one of HDR.
_WEIGHTS: Mapping[str, tuple[float, float]] = {
    "bt2020nc": (0.2627, 0.0593),
    UNKNOWN: (0.2627, 0.0593),
    "bt709": (0.2126, 0.0722),
}


def to_sdr(colour: Colour, content: Path | bytes) -> FromHdr | None:
    """Return the conversion of the frames of an HDR file to a size. None for SDR, which needs none.

    Its first call measures the file, see `peak_nits`.
    """
    if colour.hdr is None:
        return None

    @cache
    def tone_map() -> ToneMap:
        return ToneMap(*_kind(colour), peak_nits(content, colour))

    def convert(frame: av.VideoFrame, size: tuple[int, int]) -> Frame:
        parts, tone_mapped = _parts(frame, size), tone_map()

        return _in_strips(parts, lambda strip: tone_mapped(_signal(strip, frame, colour)))

    return convert


def picture_to_sdr(signal: Signal, colour: Colour) -> Frame:
    """Return an HDR picture in SDR. Its brightest luma is its peak."""
    largest = float((signal @ _luma(colour)).max()) / _MOST
    return _in_strips(signal, ToneMap(*_kind(colour), grey_nits(largest, _kind(colour)[0])))


def _in_strips(parts: Signal, convert: Callable[[Signal], Frame]) -> Frame:
    strips = (parts[top : top + _STRIP_ROWS] for top in range(0, len(parts), _STRIP_ROWS))
    with ThreadPoolExecutor(_THREADS, "wan-duet-hdr") as threads:
        return np.concatenate([*threads.map(convert, strips)])


def as_it_is(frame: av.VideoFrame, size: tuple[int, int]) -> Frame:
    """Return the Y'CbCr of a frame with 16 bits, (H, W, 3), where HDR is kept."""
    return cast(Frame, _parts(frame, size))


def peak_nits(content: Path | bytes, colour: Colour) -> float:
    """Return the light, in cd/m2, of a grey as bright as the largest luma in the key frames of an HDR file.

    At most two frames a second are measured. Side data is not asked: it is often missing, or describes a
    longer film. Single components are not either: at edges the halved colour makes them brighter than they
    were.
    """
    largest = 0.0
    with open_media(content) as container, suppress(av.FFmpegError):  # whatever can be read
        for frame in _key_frames(container, picture_stream(container, str(content))):
            shrink = max(frame.height / _MEASURED_LINES, 1)
            size = round(frame.width / shrink), round(frame.height / shrink)
            signal = _signal(_parts(frame, size), frame, colour)
            largest = max(largest, float((signal @ _luma(colour)).max()) / _MOST)
    return grey_nits(largest, _kind(colour)[0]) if largest else _USUAL_PEAK_NITS


def _key_frames(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    last: Fraction | None = None
    base = exact_fraction(stream.time_base) or Fraction(0)
    for packet in container.demux(stream):
        if packet.size:
            at = None if packet.pts is None else packet.pts * base
            if not packet.is_keyframe or (at is not None and last is not None and at - last < _STEP_S):
                continue
            last = at
        yield from packet.decode()


def _kind(colour: Colour) -> tuple[HdrTransfer, str]:
    assert colour.hdr is not None  # noqa: S101  the callers have asked
    return colour.hdr, "bt2020" if colour.primaries == UNKNOWN else colour.primaries


def _weights(colour: Colour) -> tuple[float, float]:
    return _WEIGHTS.get(colour.matrix, _WEIGHTS[UNKNOWN])


def _luma(colour: Colour) -> NDArray[np.float32]:
    """Return the weights of R', G', B' in luma."""
    kr, kb = _weights(colour)
    return np.array([kr, 1 - kr - kb, kb], np.float32)


def _parts(frame: av.VideoFrame, size: tuple[int, int]) -> Signal:
    """Return R'G'B' or Y'CbCr of a frame in that size, (H, W, 3)."""
    # libswscale only brings the parts to one size: its way from Y'CbCr to RGB loses half a percent.
    options = {"flags": INTERPOLATED}
    if size != (frame.width, frame.height):
        flags = AVERAGED if size[1] < frame.height else SMOOTH
        options = {"w": str(size[0]), "h": str(size[1]), "flags": flags}
    if frame.format.is_rgb:
        return np.asarray(in_layout(frame, "rgb48le", options).to_ndarray(), np.uint16)
    return np.asarray(
        in_layout(frame, "yuv444p16le", {**UNCHANGED, **options, "in_chroma_loc": LEFT}).to_ndarray(),
        np.uint16,
    )


def _signal(parts: Signal, frame: av.VideoFrame, colour: Colour) -> Signal:
    """Return R'G'B' for what `_parts` returned of a frame."""
    if frame.format.is_rgb:
        return parts
    matrix, offset = _to_rgb(*_weights(colour), colour.range == "pc")
    signal: NDArray[np.float32] = (parts.astype(np.float32) @ matrix + offset).clip(0, _MOST)
    return np.asarray((signal + np.float32(0.5)).astype(np.uint16))


@cache
def _to_rgb(kr: float, kb: float, full: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the matrix, (3 from, 3 to), from 16-bit Y'CbCr to R'G'B', and what to add.

    BT.2100 tables 6 and 9.
    """
    kg = 1 - kr - kb
    rows = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    luma, chroma = (_MOST, _MOST) if full else (219 * 256, 224 * 256)
    matrix = rows * (_MOST / np.array([luma, chroma, chroma]))
    zero = np.array([0 if full else 16 * 256, 128 * 256, 128 * 256])
    return matrix.T.astype(np.float32), (-matrix @ zero).astype(np.float32)
