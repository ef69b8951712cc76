"""Encodes a frame stream into a video file. No partial file remains.

The caller's thread makes the frames. A second thread encodes them, at most `_AHEAD` frames behind. The file
is written beside its place, under a name that no other run has, and moved there when it is complete.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av

from ..errors import MediaError
from ..files.on_disk import FileInUseError
from ..files.staging import staged_file
from ..progress import Progress, Silent
from .containers import storable
from .frame_hash import FrameHash, with_hash, write_hash
from .frame_stream import Frame, FrameStream, close
from .frame_writer import FileSpec, FrameWriter
from .gif_file import gif_file
from .image_sequence import ImageSequence, sequence_place, staged_sequence
from .muxed_file import muxed_file
from .probe import VideoFacts
from .sound import Sound
from .tags import storable_tags
from .video_format import FormatWish, VideoFormat, format_of
from .webp_tags import mark_transparent, write_webp_tags

__all__ = ["encode_video"]

log = logging.getLogger(__name__)

_AHEAD = 4
_USUAL = FormatWish()


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
    wish: FormatWish = _USUAL,
) -> VideoFacts:
    """Pull `frame_count` frames and write them to `path`, in the format of its suffix (see `format_of`).

    fps:   a rate that no file can hold is replaced by the nearest one, see `storable`.
    audio: cut to the length of the video, and written in the same pass.
    frame_hash: gets every frame. An MP4 gets the hash where its tags say `PENDING`.

    After any exception, also an interruption, there is no new file, the encoder thread has ended and `frames`
    is closed. An older file at `path` stays until the new one is complete.

    Returns the facts that `probe` would read from the file, without times and colours. Raises MediaError for
    an odd size, an unknown suffix, quality or write mode, frames of another size or number, sound in a format
    without sound, and if `path` cannot be written.
    """
    path, progress, fps = Path(path), progress or Silent(), storable(fps)
    frame_hash = frame_hash or FrameHash()

    def fill(file: FrameWriter) -> None:
        _write_all(file, spec, frames, progress, frame_hash)

    try:
        form = format_of(path, wish)
        options = form.encoder_options(quality, write_mode, frame_count)
        fitting = _fitting_tags(storable_tags(tags or {}), form, path.name)
        spec = FileSpec(form, width, height, fps, frame_count, options, fitting, audio)
        _check(spec)
        if form.is_sequence:
            written = _write_sequence(path, spec, fill, frame_hash)
        else:
            written = _write_file(path, spec, fill, frame_hash)
    except FileInUseError as error:
        raise MediaError(f"cannot write {path}: {error.strerror}") from error
    except (OSError, av.FFmpegError) as error:
        raise MediaError(
            f"cannot write {path}: {error}; a folder that exists, is writable and has free space works"
        ) from error
    finally:
        close(frames)
    seconds = float(frame_count / fps)
    return VideoFacts(
        path, width, height, frame_count, fps, seconds, form.codec.stored, form.pix_fmt, written
    )


def _write_file(
    path: Path, spec: FileSpec, fill: Callable[[FrameWriter], None], frame_hash: FrameHash
) -> Mapping[str, str]:
    """Write one file. Returns the tags in it."""
    container = spec.form.container.name
    with staged_file(path) as part:
        opened = gif_file(part, spec, path.name) if container == "gif" else muxed_file(part, spec)
        with opened as file:
            fill(file)
        sha256 = frame_hash.finish()
        if container == "webp":
            write_webp_tags(part, spec.tags, spec.width, spec.height)
            if spec.form.alpha:
                mark_transparent(part)
        if container in ("mp4", "mov"):
            write_hash(part, sha256)
            return with_hash(spec.tags, sha256)
    return spec.tags


def _write_sequence(
    path: Path, spec: FileSpec, fill: Callable[[FrameWriter], None], frame_hash: FrameHash
) -> Mapping[str, str]:
    """Write a file of each frame. Returns the tags in the first one."""
    place = sequence_place(path, spec.form.container.name)
    with staged_sequence(place) as folder:
        fill(ImageSequence(folder, place, spec))
        frame_hash.finish()
    return spec.tags


def _fitting_tags(tags: Mapping[str, str], form: VideoFormat, name: str) -> Mapping[str, str]:
    """Return the tags, or none where the format holds none, and say so."""
    if form.container.holds_tags or not tags:
        return tags
    log.warning("%s: a .%s file holds no tags: %s", name, form.container.name, ", ".join(tags))
    return {}


def _check(spec: FileSpec) -> None:
    """Raise MediaError for what the format cannot hold."""
    form, codec, (across, down) = spec.form, spec.form.codec, spec.form.codec.block
    size = f"{spec.width}x{spec.height}"
    if spec.width % across or spec.height % down:
        raise MediaError(
            f"cannot write {size} pixels as {codec.name}, which stores colour for blocks of "
            f"{across}x{down}; an even width and height work, `--odd pad` or `crop`, or .mkv"
        )
    if min(spec.width, spec.height) < codec.least:
        raise MediaError(
            f"cannot write {size} pixels as {codec.name}; from {codec.least}x{codec.least} on works"
        )
    if spec.frame_count < 1:
        raise MediaError(f"cannot write a video of {spec.frame_count} frames; it needs at least one")
    if spec.audio is not None and not form.sound:
        raise MediaError(
            f"a .{form.container.name} file has no sound track; leave the audio out, or write .mp4"
        )


def _write_all(
    file: FrameWriter, spec: FileSpec, frames: FrameStream, progress: Progress, frame_hash: FrameHash
) -> None:
    """Write all frames in one worker thread. Waiting for the oldest frame limits the queue and raises its
    error.

    Each frame also waits for the one before: libav crashes when it is called again after a failed write.
    """
    count, shape = spec.frame_count, spec.shape
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
            if frame.shape != shape or frame.dtype != spec.form.dtype:
                raise MediaError(
                    f"frame {done} is {frame.dtype} {frame.shape}; this video takes {spec.form.dtype} "
                    f"(H, W, {shape[2]}) = {shape}"
                )
            if len(pending) == _AHEAD:
                pending.popleft().result()
            frame_hash.add(frame)
            last = worker.submit(_write_one, last, file, frame, done)
            pending.append(last)
            done += 1
            progress.advance(done)
        if done != count:
            raise MediaError(f"the video has only {done} of the {count} frames that were announced")
        for future in pending:
            future.result()
        file.finish(progress.check)
    finally:
        worker.shutdown(wait=True, cancel_futures=True)


def _write_one(before: Future[None] | None, file: FrameWriter, frame: Frame, index: int) -> None:
    if before is not None:
        before.result()
    file.write(frame, index)
