"""Reads a video file as a frame stream: upright, RGB, one frame at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..errors import MediaError
from .frames import Frame, FrameStream
from .open_media import exact_fraction, open_animation, open_media
from .streams import picture_stream

__all__ = ["TimedFrame", "read_frames", "read_timed_frames"]

_SOME_RATE = Fraction(25)  # frames per second of a file that states none
_HD_LINES = 720  # without a colour tag, players assume BT.709 from this height on, BT.601 below


def read_frames(content: Path | bytes) -> FrameStream:
    """Yield the frames of the first video stream, rotated as in a player.

    Raises MediaError if the file is missing or damaged, or has no video stream.
    """
    for timed in read_timed_frames(content):
        yield timed.frame()


@dataclass(frozen=True)
class TimedFrame:
    """A frame and its time.

    seconds, end: when it appears and disappears, from the first frame on.
    frame:        returns its pixels, upright. Frames that are not used are never converted.
    """

    seconds: Fraction
    end: Fraction
    frame: Callable[[], Frame]


def read_timed_frames(content: Path | bytes) -> Iterator[TimedFrame]:
    """Yield the frames of the first video stream with their times. Raises as `read_frames`."""
    name = "the video" if isinstance(content, bytes) else str(content)
    is_webp = content[8:12] == b"WEBP" if isinstance(content, bytes) else content.suffix.lower() == ".webp"
    return _animation(content, name) if is_webp else _video(content, name)


def _video(content: Path | bytes, name: str) -> Iterator[TimedFrame]:
    try:
        with open_media(content) as container:
            stream = picture_stream(container, name)
            stream.thread_type = "AUTO"
            rate = exact_fraction(stream.average_rate or stream.guessed_rate) or _SOME_RATE
            start, end = None, Fraction(0)
            for frame in container.decode(stream):
                # A frame without a time follows the one before.
                base = exact_fraction(frame.time_base)
                at = end if frame.pts is None or base is None else frame.pts * base
                start = at if start is None else start
                end = at - start + 1 / rate
                yield TimedFrame(at - start, end, partial(_upright_rgb, frame))
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read {name} as a video: {error.strerror or error}") from error


def _animation(content: Path | bytes, name: str) -> Iterator[TimedFrame]:
    with open_animation(content, name) as image:
        seconds = Fraction(0)
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            pixels = np.asarray(image.convert("RGB"))
            shown = Fraction(image.info.get("duration", 0), 1000) or 1 / _SOME_RATE
            yield TimedFrame(seconds, seconds + shown, partial(np.asarray, pixels))
            seconds += shown


def _upright_rgb(frame: av.VideoFrame) -> Frame:
    return _upright(_rgb(frame), frame.rotation)


def _rgb(frame: av.VideoFrame) -> Frame:
    matrix = frame.colorspace
    if matrix not in (Colorspace.ITU709, Colorspace.ITU601, Colorspace.SMPTE170M):
        matrix = Colorspace.ITU709 if frame.height >= _HD_LINES else Colorspace.ITU601
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        # Meaningless for RGB. PyAV below 17 ignores the source unless the two differ.
        dst_colorspace=Colorspace.ITU601,
        src_color_range=frame.color_range or ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)


def _upright(frame: Frame, degrees: int) -> Frame:
    """Rotate a frame. degrees: counterclockwise, as stored in the file."""
    return np.ascontiguousarray(np.rot90(frame, round(degrees / 90))) if degrees else frame
