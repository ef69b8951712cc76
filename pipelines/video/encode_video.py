"""Encodes a frame stream into a video file. No partial file remains.

The caller's thread makes the frames. A second thread encodes them, at most `_AHEAD` frames behind. The file
is written beside its place, under a name that no other run has, and moved there when it is complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace

from ..errors import MediaError
from ..files.on_disk import FileInUseError
from ..files.staging import staged_file
from ..progress import Progress, Silent
from .audio import AudioTrack
from .containers import Container, container_of, storable
from .frame_hash import FrameHash, with_hash, write_hash
from .frame_stream import Frame, FrameStream, close
from .open_media import libav_name
from .probe import VideoFacts
from .sound import Sound
from .tags import storable_tags
from .webp_tags import write_webp_tags

__all__ = ["encode_video"]

_AHEAD = 4
_BT709 = 1  # the same number for matrix, primaries and transfer, ITU-T H.273
_RGB = 0  # no colour matrix, ITU-T H.273
_MUXERS = {"mkv": "matroska"}


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
    audio: Sound | None = None,
    frame_hash: FrameHash | None = None,
) -> VideoFacts:
    """Pull `frame_count` frames and write them to `path`, in the format of its suffix (see `containers`).

    fps:   a rate that no file can hold is replaced by the nearest one, see `storable`.
    audio: cut to the length of the video, and written in the same pass.
    frame_hash: gets every frame. An MP4 gets the hash where its tags say `PENDING`.

    After any exception, also an interruption, there is no new file, the encoder thread has ended and `frames`
    is closed. An older file at `path` stays until the new one is complete.

    Returns the facts that `probe` would read from the file. Raises MediaError for an odd size, an unknown
    suffix, quality or write mode, frames of another size or number, sound in a format without sound, and if
    `path` cannot be written.
    """
    path, progress, fps = Path(path), progress or Silent(), storable(fps)
    frame_hash = frame_hash or FrameHash()
    try:
        kind = container_of(path)
        options = kind.encoder_options(quality, write_mode)
        _check(kind, width, height, frame_count, audio)
        tags = storable_tags(tags or {})
        with staged_file(path) as part:
            muxer = _MUXERS.get(kind.name, kind.name)
            with av.open(libav_name(part), "w", format=muxer, options=kind.muxer_options(fps)) as output:
                output.metadata.update(tags)  # must be set before the first stream
                stream = _add_stream(output, kind, width, height, fps, options)
                track = None if audio is None else AudioTrack(output, kind, audio, frame_count, fps)
                try:
                    _encode_all(_File(output, stream, track), frames, frame_count, progress, frame_hash)
                finally:
                    if track is not None:
                        track.close()
            sha256 = frame_hash.finish()
            if kind.name == "webp":
                write_webp_tags(part, tags, width, height)
            if kind.name == "mp4":
                tags = with_hash(tags, sha256)
                write_hash(part, sha256)
    except FileInUseError as error:
        raise MediaError(f"cannot write {path}: {error.strerror}") from error
    except (OSError, av.FFmpegError) as error:
        raise MediaError(
            f"cannot write {path}: {error}; a folder that exists, is writable and has free space works"
        ) from error
    finally:
        close(frames)
    seconds = float(frame_count / fps)
    return VideoFacts(path, width, height, frame_count, fps, seconds, kind.codec, kind.pix_fmt, tags)


def _check(kind: Container, width: int, height: int, frame_count: int, audio: Sound | None) -> None:
    least = 2 if kind.halves_colour else 1
    if width < least or height < least or width % least or height % least:
        raise MediaError(
            f"cannot write {width}x{height} pixels as .{kind.name}, which stores colour for blocks of "
            f"{least}x{least}; an even width and height work, `--odd pad` or `crop`, or .mkv"
        )
    if frame_count < 1:
        raise MediaError(f"cannot write a video of {frame_count} frames; it needs at least one")
    if audio is not None and not kind.audio:
        raise MediaError(f"a .{kind.name} file has no sound track; leave the audio out, or write .mp4")


def _add_stream(
    output: OutputContainer, kind: Container, width: int, height: int, fps: Fraction, options: dict[str, str]
) -> av.VideoStream:
    stream = cast(av.VideoStream, output.add_stream(kind.encoder, rate=fps, options=options))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, kind.pix_fmt
    context.time_base = stream.time_base = 1 / fps
    # Untagged files are read as BT.601 by some players and as BT.709 by others: reds and greens shift.
    context.color_primaries = context.color_trc = _BT709
    context.colorspace = _BT709 if kind.halves_colour else _RGB
    context.color_range = ColorRange.MPEG if kind.halves_colour else ColorRange.JPEG
    return stream


@dataclass(frozen=True)
class _File:
    """A file that is being written."""

    output: OutputContainer
    stream: av.VideoStream
    track: AudioTrack | None


def _encode_all(
    file: _File, frames: FrameStream, count: int, progress: Progress, frame_hash: FrameHash
) -> None:
    """Encode all frames in one worker thread. Waiting for the oldest frame limits the queue and raises its
    error.

    Each frame also waits for the one before: libav crashes when it is called again after a failed write.
    """
    shape = (file.stream.codec_context.height, file.stream.codec_context.width, 3)
    progress.begin("video", count, "frames")
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wan-duet-encoder")
    last: Future[None] | None = None
    pending: deque[Future[None]] = deque()
    done = 0
    try:
        for frame in frames:
            progress.check()
            if done == count:
                raise MediaError(f"the video has more than the {count} frames that were announced")
            if frame.shape != shape or frame.dtype != np.uint8:
                raise MediaError(
                    f"frame {done} is {frame.dtype} {frame.shape}; this video takes uint8 (H, W, 3) = {shape}"
                )
            if len(pending) == _AHEAD:
                pending.popleft().result()
            frame_hash.add(frame)
            last = worker.submit(_encode_one, last, file, frame, done)
            pending.append(last)
            done += 1
            progress.advance(done)
        if done != count:
            raise MediaError(f"the video has only {done} of the {count} frames that were announced")
        for future in pending:
            future.result()
        _mux(file, None)
        if file.track is not None:
            file.track.finish()
    finally:
        worker.shutdown(wait=True, cancel_futures=True)


def _encode_one(before: Future[None] | None, file: _File, frame: Frame, index: int) -> None:
    if before is not None:
        before.result()
    video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    pix_fmt = file.stream.codec_context.pix_fmt
    if file.stream.codec_context.colorspace == _BT709:
        video_frame = video_frame.reformat(
            format=pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
    else:
        video_frame = video_frame.reformat(format=pix_fmt)
    video_frame.pts, video_frame.time_base = index, file.stream.codec_context.time_base
    _mux(file, video_frame)
    if file.track is not None:
        file.track.write_until(index + 1)


def _mux(file: _File, video_frame: av.VideoFrame | None) -> None:
    for packet in file.stream.encode(video_frame):
        packet.duration = 1  # else the last frame of the file has a duration of 0
        file.output.mux(packet)
