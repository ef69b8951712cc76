"""Edits a clip between decoder and file: reverses it, interpolates frames, writes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import MediaError
from ..progress import Progress
from ..request.timing import frames_out, output_fps
from .cuts import SCENE_THRESHOLD
from .encode_video import encode_video
from .frame_hash import FrameHash
from .frame_stream import Frame, FrameStream, close, tee
from .more_frames import Interpolator, interpolated
from .odd_sizes import even_size, evened
from .probe import VideoFacts
from .reverse import reversed_stream
from .sound import Sound
from .video_format import FormatWish, format_of

__all__ = ["Edit", "edited", "write_edited"]

log = logging.getLogger(__name__)

_USUAL = FormatWish()
_USUAL_FPS = 120  # what screens show; faster is written as asked, and players leave frames out


@dataclass(frozen=True)
class Edit:
    """The settings of an edit.

    fps:        frame rate of the decoded frames.
    reverse:    play the frames backwards, but not the sound.
    interpolator, num_interpolated_frames: the interpolator, and how many frames it adds between two frames.
                "none" adds none.
    adjust_fps: raise the frame rate so that the duration stays. Else the clip plays in slow motion and the
                sound, which is never stretched, ends earlier.
    scene_threshold: above it two frames are of different shots, see `cuts.unexplained`; 1 finds no cuts.
    """

    fps: Fraction
    reverse: bool = False
    interpolator: str = "none"
    num_interpolated_frames: int = 0
    adjust_fps: bool = True
    quality: str = "high"
    write_mode: str = "balanced"
    scene_threshold: float = SCENE_THRESHOLD

    @property
    def between(self) -> int:
        return 0 if self.interpolator == "none" else self.num_interpolated_frames

    def fps_out(self, frames: int) -> Fraction:
        return output_fps(self.fps, frames, self.between, self.adjust_fps)

    def result_of(self, frames: int, name: str) -> tuple[int, Fraction]:
        """Return the frames and the frame rate of the file for `frames` decoded frames.

        Logs what a user may not expect of the file, under its name.
        """
        fps = self.fps_out(frames)
        if self.between and frames == 1:
            log.warning("%s: a single frame cannot be interpolated; its frame rate stays", name)
        if fps > _USUAL_FPS:
            log.warning(
                "%s: %g frames per second are more than most screens show; use fewer new frames, or do not "
                "adjust the frame rate",
                name,
                float(fps),
            )
        return frames_out(frames, self.between), fps

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values. `Edit.of` reads them."""
        return {**vars(self), "fps": str(self.fps)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Edit:
        """Make an edit from `as_dict`. Raises MediaError for other values."""
        try:
            edit = cls(**{**values, "fps": Fraction(values["fps"])})
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise MediaError(f"no settings of a video: {error}") from error
        for name, usual in vars(cls(Fraction(1))).items():
            if type(getattr(edit, name)) is not type(usual):
                raise MediaError(f"no settings of a video: {name} is {getattr(edit, name)!r}")
        if edit.fps <= 0 or edit.num_interpolated_frames < 0:
            raise MediaError(
                f"no settings of a video: {edit.fps} fps, {edit.num_interpolated_frames} between"
            )
        return edit


def edited(frames: FrameStream, edit: Edit, interpolator: Interpolator | None, spool: Path) -> FrameStream:
    """Reverse `frames`, then interpolate them, as `edit` says.

    interpolator: the one that `edit.interpolator` names. Only needed when frames are added.
    spool:        a folder with room for the uncompressed clip, used to reverse it.

    Raises:
        MediaError: frames must be added, but there is no interpolator.
    """
    if edit.between and interpolator is None:
        close(frames)
        raise MediaError(
            f"there is no interpolator {edit.interpolator!r} for the new frames; load it, or set none"
        )
    if edit.reverse:
        frames = reversed_stream(frames, spool)
    if edit.between and interpolator is not None:
        frames = interpolated(frames, interpolator, edit.between, edit.scene_threshold)
    return frames


def write_edited(
    frames: FrameStream,
    path: Path,
    edit: Edit,
    *,
    count: int,
    width: int,
    height: int,
    interpolator: Interpolator | None = None,
    tags: Mapping[str, str] | None = None,
    audio: Sound | None = None,
    progress: Progress | None = None,
    kept: list[Frame] | None = None,
    planned: tuple[int, Fraction] | None = None,
    frame_hash: FrameHash | None = None,
    odd: str = "pad",
    wish: FormatWish = _USUAL,
) -> VideoFacts:
    """Write `count` frames of that size to `path`, edited. Raises as `edited` and `encode_video` do.

    kept: a list to which every frame of the file is appended.
    planned: the frames and the frame rate of the file, if a plan has them; None computes them.
    frame_hash: as for `encode_video`.
    odd:  what becomes of an odd size where the format needs an even one, see `ODD`.
    wish: as for `encode_video`.
    """
    frame_count, fps = planned or edit.result_of(count, path.name)
    size = even_size(width, height, odd, format_of(path, wish).codec.block)
    stream = edited(frames, edit, interpolator, path.parent)
    if size != (width, height):
        done = "padded" if odd == "pad" else "cropped"
        log.warning(
            "%s: %dx%d is %s to %dx%d: this format needs even sides", path.name, width, height, done, *size
        )
        stream = evened(stream, *size)
    return encode_video(
        stream if kept is None else tee(stream, kept),
        path,
        width=size[0],
        height=size[1],
        fps=fps,
        frame_count=frame_count,
        quality=edit.quality,
        write_mode=edit.write_mode,
        tags=tags,
        audio=audio,
        progress=progress,
        frame_hash=frame_hash,
        wish=wish,
    )
