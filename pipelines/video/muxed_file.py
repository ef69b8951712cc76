"""Writes frames and their sound into one container file with libav."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange

from .audio import AudioTrack
from .colour import codes_of
from .frame_stream import Frame
from .frame_writer import FileSpec
from .open_media import libav_name
from .pixel_layout import AVERAGED, LEFT, UNCHANGED, forget_graphs, in_layout
from .video_format import VideoFormat

__all__ = ["MuxedFile", "converted", "muxed_file"]

_BT709 = 1  # the same number for matrix, primaries and transfer, ITU-T H.273
_BT709_TAGS = {"out_primaries": "bt709", "out_transfer": "bt709"}  # of a frame; ProRes takes its own from it
_RGB = 0  # no colour matrix, ITU-T H.273
_AS_STORED = {"flags": AVERAGED, "out_chroma_loc": LEFT}


@dataclass(frozen=True)
class MuxedFile:
    """A file that is being written. Used by one thread at a time."""

    output: OutputContainer
    stream: av.VideoStream
    track: AudioTrack | None
    form: VideoFormat

    def write(self, frame: Frame, index: int) -> None:
        """Encode a frame, and the sound until its end."""
        self.put(converted(frame, self.form), index)
        if self.track is not None:
            self.track.write_until(index + 1)

    def put(self, video_frame: av.VideoFrame, index: int) -> None:
        """Encode a frame that has the pixel format of the file."""
        video_frame.pts, video_frame.time_base = index, self.stream.codec_context.time_base
        self._mux(video_frame)

    def finish(self, check: Callable[[], None]) -> None:
        """Write what the encoders still hold."""
        check()
        self._mux(None)
        if self.track is not None:
            self.track.finish()

    def _mux(self, video_frame: av.VideoFrame | None) -> None:
        for packet in self.stream.encode(video_frame):
            packet.duration = 1  # else the last frame of the file has a duration of 0
            self.output.mux(packet)


@contextmanager
def muxed_file(place: Path, spec: FileSpec) -> Iterator[MuxedFile]:
    """Open a file at `place` for frames and sound."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes twenty lines on stderr; 1: errors only
    container = spec.form.container
    options = container.muxer_options(spec.fps)
    with av.open(libav_name(place), "w", format=container.muxer, options=options) as output:
        output.metadata.update(spec.tags)  # must be set before the first stream
        stream = _add_stream(output, spec)
        track = None
        if spec.audio is not None:
            track = AudioTrack(output, spec.form.sound, spec.audio, spec.frame_count, spec.fps)
        try:
            yield MuxedFile(output, stream, track, spec.form)
        finally:
            forget_graphs()
            if track is not None:
                track.close()


def _add_stream(output: OutputContainer, spec: FileSpec) -> av.VideoStream:
    codec = spec.form.codec
    added = output.add_stream(codec.encoder, rate=spec.fps, options=dict(spec.options))
    stream = cast(av.VideoStream, added)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = spec.width, spec.height, spec.form.pix_fmt
    context.time_base = stream.time_base = 1 / spec.fps
    # Untagged files are read as BT.601 by some players and as BT.709 by others: reds and greens shift.
    context.color_primaries = context.color_trc = _BT709
    context.colorspace = _RGB if codec.is_rgb else _BT709
    context.color_range = ColorRange.JPEG if codec.is_rgb else ColorRange.MPEG
    if spec.form.hdr is not None:
        tags = codes_of(spec.form.hdr.colour)
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = tags
    if codec.tag and spec.form.container.name in ("mp4", "mov"):
        context.codec_tag = codec.tag
    return stream


def converted(frame: Frame, form: VideoFormat) -> av.VideoFrame:
    """Return an RGB or RGBA frame, or one of kept HDR, in the pixel format of the file."""
    if form.hdr is not None:
        kept = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv444p16le")
        return in_layout(kept, form.pix_fmt, {**UNCHANGED, **_AS_STORED})
    source = "rgba" if form.alpha else "rgb24"
    video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=source)
    if form.codec.is_rgb:
        return in_layout(video_frame, form.pix_fmt, {})
    options = {"out_color_matrix": "bt709", "out_range": "tv", **_BT709_TAGS, **_AS_STORED}
    return in_layout(video_frame, form.pix_fmt, options)
