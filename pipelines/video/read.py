"""Reads a video file as a frame stream: upright, RGB, one frame at a time, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from ..errors import MediaError
from .chosen_streams import picture_stream
from .colour import colour_of
from .decoding import decoded
from .deinterlace import deinterlaced
from .frame_pixels import WHITE, Background, Look, over_background, rgb
from .frame_stream import Frame, FrameStream
from .hdr import require_readable
from .hdr_frames import as_it_is, to_sdr
from .open_media import exact_fraction, open_animation, open_media
from .pixel_layout import forget_graphs, siting_of

__all__ = ["SOME_RATE", "TimedFrame", "read_frames", "read_timed_frames", "stated_rate", "timed"]

SOME_RATE = Fraction(25)
"""Frames per second of a file that states none."""

_NO_TIMES = 0x80  # AVFMT_NOTIMESTAMPS, libavformat/avformat.h
_MOST_EARLY = 16  # frames without a time at the start that are held until one has a time


def read_frames(content: Path | bytes) -> FrameStream:
    """Yield the frames of the first video stream, as a player shows them.

    Raises MediaError if the file is missing or damaged, or has no video stream.
    """
    for frame in read_timed_frames(content):
        yield frame.frame()


@dataclass(frozen=True)
class TimedFrame:
    """A frame and its time.

    seconds, end: when it appears and disappears, from the first frame on.
    frame:        returns its pixels, upright. Frames that are not used are never converted.
    """

    seconds: Fraction
    end: Fraction
    frame: Callable[[], Frame]


def read_timed_frames(
    content: Path | bytes, *, background: Background = WHITE, salvage: bool = False, keep_hdr: bool = False
) -> Iterator[TimedFrame]:
    """Yield the frames of the first video stream with their times. Raises as `read_frames`.

    background: RGB, 0 to 255, behind transparency. None keeps it: the frames are (H, W, 4).
    salvage:    leave out what is damaged.
    keep_hdr:   the frames of an HDR video are Y'CbCr with 16 bits. Else they are tone-mapped.
    """
    name = "the video" if isinstance(content, bytes) else str(content)
    is_webp = content[8:12] == b"WEBP" if isinstance(content, bytes) else content.suffix.lower() == ".webp"
    if is_webp:
        return _animation(content, name, background)
    return _video(content, name, background, salvage, keep_hdr)


def _video(
    content: Path | bytes, name: str, background: Background, salvage: bool, keep_hdr: bool
) -> Iterator[TimedFrame]:
    try:
        with open_media(content) as container:
            stream = picture_stream(container, name)
            codec = stream.codec_context.codec.canonical_name
            # Each thread would lose other frames to the damage, and repeat another one of Theora.
            if not salvage and codec != "theora":
                stream.thread_type = "AUTO"
            colour = colour_of(stream, content)
            require_readable(colour, name)
            aspect = exact_fraction(stream.sample_aspect_ratio) or Fraction(1)
            from_hdr = as_it_is if keep_hdr and colour.hdr is not None else to_sdr(colour, content)
            look = Look(aspect, background, from_hdr, siting_of(codec))
            frames: Iterator[av.VideoFrame] = decoded(container, [stream], salvage=salvage)
            start = None
            for frame, at, end in timed(deinterlaced(frames, name), stream):
                start = at if start is None else start
                yield TimedFrame(at - start, end - start, partial(rgb, frame, look))
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read {name} as a video: {error.strerror or error}") from error
    finally:
        forget_graphs()


def stated_rate(stream: av.VideoStream) -> Fraction | None:
    """Return the frames per second that a file states.

    A raw stream has no times and only its frames state a rate; libav's mean is made up.
    """
    rates = stream.average_rate, stream.guessed_rate
    first, second = rates[::-1] if stream.container.format.flags & _NO_TIMES else rates
    return exact_fraction(first or second)


def timed(
    frames: Iterator[av.VideoFrame], stream: av.VideoStream
) -> Iterator[tuple[av.VideoFrame, Fraction, Fraction]]:
    """Yield each frame with when it appears and disappears, in seconds of the file's clock, rising.

    A frame without a time, or with one that lies before the last frame, follows that one. Those at the start
    lie before the first one with a time: libav gives none to what a Matroska file puts before its start.
    """
    usual = 1 / (stated_rate(stream) or SOME_RATE)
    at: Fraction | None = None
    for early, frame in _with_early(frames):
        stated, base = _time_of(frame), exact_fraction(frame.time_base)
        if at is None:
            at = (stated or Fraction(0)) - len(early) * usual
            for each in early:
                yield each, at, at + usual
                at += usual
        else:
            at = at + usual if stated is None or stated <= at else stated
        shown = frame.duration * base if base is not None and frame.duration else usual
        yield frame, at, at + shown


def _with_early(frames: Iterator[av.VideoFrame]) -> Iterator[tuple[list[av.VideoFrame], av.VideoFrame]]:
    """Yield each frame; the first one that has a time with those before it."""
    early: list[av.VideoFrame] = []
    started = False
    for frame in frames:
        if not started and _time_of(frame) is None and len(early) < _MOST_EARLY:
            early.append(frame)
            continue
        yield ([] if started else early), frame
        started = True
    if early and not started:
        yield early[:-1], early[-1]


def _time_of(frame: av.VideoFrame) -> Fraction | None:
    base = exact_fraction(frame.time_base)
    return frame.pts * base if frame.pts is not None and base is not None else None


def _animation(content: Path | bytes, name: str, background: Background) -> Iterator[TimedFrame]:
    with open_animation(content, name) as image:
        seconds = Fraction(0)
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            pixels = np.asarray(image.convert("RGBA"))
            if background is not None:
                pixels = over_background(pixels, background)
            shown = Fraction(image.info.get("duration", 0), 1000) or 1 / SOME_RATE
            yield TimedFrame(seconds, seconds + shown, partial(np.asarray, pixels))
            seconds += shown
