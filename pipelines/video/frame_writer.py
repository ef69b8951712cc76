"""Says what is to be written, and what writes it frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from .frame_stream import Frame
from .sound import Sound
from .video_format import VideoFormat

__all__ = ["FileSpec", "FrameWriter"]


@dataclass(frozen=True)
class FileSpec:
    """All that is known of a file before its first frame.

    options: of the encoder. audio: is cut to the length of the video.
    """

    form: VideoFormat
    width: int
    height: int
    fps: Fraction
    frame_count: int
    options: Mapping[str, str]
    tags: Mapping[str, str]
    audio: Sound | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of each frame."""
        return self.height, self.width, self.form.channels


class FrameWriter(Protocol):
    """Writes the frames of a file, in order. Used by one thread at a time."""

    def write(self, frame: Frame, index: int) -> None:
        """Write frame number `index`."""

    def finish(self, check: Callable[[], None]) -> None:
        """Write what is left after the last frame. check: called between two frames. Raises to stop."""
