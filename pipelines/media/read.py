"""A video file as a frame stream: upright, in RGB, one frame at a time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..errors import MediaError
from .frames import Frame, FrameStream
from .source import opened_animation, require_codec

__all__ = ["read_frames"]

_HD_LINES = 720  # what carries no tag is BT.709 from here on and BT.601 below, as players assume


def read_frames(path: Path) -> FrameStream:
    """Every frame of the first video of `path`, turned as a player would turn it.

    Raises:
        MediaError: the file is missing, damaged, or has no picture in it.
    """
    path = Path(path)
    return _animation(path) if path.suffix.lower() == ".webp" else _video(path)


def _video(path: Path) -> FrameStream:
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise MediaError(f"{path} has no video stream in it")
            stream = container.streams.video[0]
            require_codec(stream, path)
            stream.thread_type = "AUTO"
            for picture in container.decode(stream):
                yield _upright(_rgb(picture), picture.rotation)
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"cannot read {path} as a video: {error.strerror or error}") from error


def _animation(path: Path) -> FrameStream:
    with opened_animation(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            yield np.asarray(image.convert("RGB"))


def _rgb(picture: av.VideoFrame) -> Frame:
    matrix = picture.colorspace
    if matrix not in (Colorspace.ITU709, Colorspace.ITU601, Colorspace.SMPTE170M):
        matrix = Colorspace.ITU709 if picture.height >= _HD_LINES else Colorspace.ITU601
    converted = picture.reformat(
        format="rgb24",
        src_colorspace=matrix,
        # Of no meaning for RGB, but PyAV below 17 only looks at the source where the two differ.
        dst_colorspace=Colorspace.ITU601,
        src_color_range=picture.color_range or ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)


def _upright(frame: Frame, degrees: int) -> Frame:
    """degrees: counterclockwise, of the turn that the file asks for."""
    return np.ascontiguousarray(np.rot90(frame, round(degrees / 90))) if degrees else frame
