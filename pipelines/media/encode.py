"""A frame stream becomes an MP4 that plays everywhere, or no file at all.

The caller's thread makes the frames while a second one encodes them, at most `_AHEAD` frames behind. The file
is written as PATH.part next to its place and moved there when it is complete.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace

from ..errors import MediaError
from ..progress import Progress, Silent
from .frames import Frame, FrameStream, close
from .probe import VideoFacts
from .tags import checked

__all__ = ["QUALITIES", "WRITE_MODES", "encode_video"]

QUALITIES = {"low": 28, "medium": 23, "high": 18, "maximum": 12}
"""video_quality -> x264 CRF in the balanced write mode."""

WRITE_MODES = {"fast": ("veryfast", -2), "balanced": ("medium", 0), "small": ("slower", 1)}
"""video_write_mode -> x264 preset, and the CRF shift that keeps the picture about the same (VMAF-min)."""

_AHEAD = 4
_BT709 = 1  # the same number for matrix, primaries and transfer, ITU-T H.273


def encode_video(
    frames: FrameStream,
    path: Path,
    *,
    width: int,
    height: int,
    fps: Fraction,
    frame_count: int,
    quality: str = "high",
    write_mode: str = "balanced",
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> VideoFacts:
    """Pull `frame_count` frames and write them to `path` as H.264, 4:2:0, BT.709, index first.

    Any exception, an interruption included, leaves neither the file nor a part of it, ends the encoder thread
    and closes `frames`. An older file at `path` stays until the new one is complete.

    Returns:
        What was written; `probe` reads it back.

    Raises:
        MediaError: odd size, unknown quality or write mode, frames of another size or number than promised,
            or `path` cannot be written.
    """
    path, progress = Path(path), progress or Silent()
    part = path.with_name(path.name + ".part")
    try:
        options = _x264_options(quality, write_mode)
        _check_size(width, height, frame_count)
        tags = checked(tags or {})
        try:
            with av.open(str(part), "w", format="mp4", options=_mp4_options(fps)) as container:
                container.metadata.update(tags)  # the muxer writes only what is there before the first stream
                stream = _add_stream(container, width, height, fps, options)
                _encode_all(container, stream, frames, frame_count, progress)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, av.FFmpegError) as error:
        raise MediaError(
            f"cannot write {path}: {error}; a folder that exists, is writable and has free space works"
        ) from error
    finally:
        close(frames)
    seconds = float(frame_count / fps)
    return VideoFacts(path, width, height, frame_count, fps, seconds, "h264", "yuv420p", tags)


def _mp4_options(fps: Fraction) -> dict[str, str]:
    return {
        "movflags": "use_metadata_tags+faststart",  # any tag name is kept; index before the pictures
        "movie_timescale": str(100 * fps.numerator),  # the default, 1000, would round the duration
    }


def _x264_options(quality: str, write_mode: str) -> dict[str, str]:
    if quality not in QUALITIES:
        raise MediaError(f"video_quality {quality!r} is unknown; one of {', '.join(QUALITIES)} works")
    if write_mode not in WRITE_MODES:
        raise MediaError(f"video_write_mode {write_mode!r} is unknown; one of {', '.join(WRITE_MODES)} works")
    preset, shift = WRITE_MODES[write_mode]
    return {"preset": preset, "crf": str(QUALITIES[quality] + shift)}


def _check_size(width: int, height: int, frame_count: int) -> None:
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise MediaError(
            f"cannot write {width}x{height} pixels as H.264, which stores colour for blocks of 2x2; "
            "an even width and height work"
        )
    if frame_count < 1:
        raise MediaError(f"there are {frame_count} frames to write; a video needs at least one")


def _add_stream(
    container: OutputContainer, width: int, height: int, fps: Fraction, options: dict[str, str]
) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=fps, options=options)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = stream.time_base = 1 / fps
    # Untagged files are read as BT.601 by some players and as BT.709 by others: reds and greens shift.
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG
    return stream


def _encode_all(
    container: OutputContainer, stream: av.VideoStream, frames: FrameStream, count: int, progress: Progress
) -> None:
    """One worker encodes; waiting for the oldest frame bounds the queue and brings its error here.

    Each frame also waits for the one before: libav crashes when it is written to again after a failed write.
    """
    shape = (stream.codec_context.height, stream.codec_context.width, 3)
    progress.begin("video", count, "frames")
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wan-duet-encoder")
    last: Future[None] | None = None
    pending: deque[Future[None]] = deque()
    done = 0
    try:
        for frame in frames:
            progress.check()
            if done == count:
                raise MediaError(f"more frames came than the {count} that were promised")
            if frame.shape != shape or frame.dtype != np.uint8:
                raise MediaError(
                    f"frame {done} is {frame.dtype} {frame.shape}; this video takes uint8 (H, W, 3) = {shape}"
                )
            if len(pending) == _AHEAD:
                pending.popleft().result()
            last = worker.submit(_encode_one, last, container, stream, frame, done)
            pending.append(last)
            done += 1
            progress.advance(done)
        if done != count:
            raise MediaError(f"only {done} of the {count} promised frames came")
        for future in pending:
            future.result()
        _mux(container, stream, None)
    finally:
        worker.shutdown(wait=True, cancel_futures=True)


def _encode_one(
    before: Future[None] | None, container: OutputContainer, stream: av.VideoStream, frame: Frame, index: int
) -> None:
    if before is not None:
        before.result()
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    picture.pts, picture.time_base = index, stream.codec_context.time_base
    _mux(container, stream, picture)


def _mux(container: OutputContainer, stream: av.VideoStream, picture: av.VideoFrame | None) -> None:
    for packet in stream.encode(picture):
        packet.duration = 1  # without it the last frame of the file would be shown for no time
        container.mux(packet)
