"""Opens a video file as a clip: frames at a constant rate, and a sound that keeps its place beside them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from .cuts import SCENE_THRESHOLD, frames_between, marked
from .edit import Edit
from .frame_pixels import WHITE, Background
from .frame_stream import Frame, FrameStream, close
from .frame_times import FrameTimes
from .hdr import hdr_note
from .more_frames import Interpolator
from .probe import VideoFacts, probe
from .read import TimedFrame, read_timed_frames
from .sound import FileSound, Sound, usual_layout

__all__ = ["SourceClip", "SourceWish", "draw_between", "open_clip"]

log = logging.getLogger(__name__)

_IN_PLACE = 0.1  # of a frame: a source frame so near to an instant is shown, not drawn anew


@dataclass(frozen=True)
class SourceWish:
    """How a file is to be read.

    fps:          the constant rate of the clip. None: that of the file, see `FrameTimes.rate`.
    interpolator: draws the frames at instants between those of the file. None shows the nearest one.
    background:   RGB, 0 to 255, behind transparency. None keeps it: the frames are (H, W, 4).
    with_sound:   read the sound too. audio_track: its number, 0 is the first.
    salvage:      leave out what is damaged.
    scene_threshold: as of an `Edit`, for frames that are drawn.
    keep_hdr:     as of `read_timed_frames`.
    """

    fps: Fraction | None = None
    interpolator: Interpolator | None = None
    background: Background = WHITE
    with_sound: bool = True
    audio_track: int = 0
    salvage: bool = False
    scene_threshold: float = SCENE_THRESHOLD
    keep_hdr: bool = False


_AS_IT_IS = SourceWish()


@dataclass(frozen=True)
class SourceClip:
    """A clip of `count` frames at `fps` per second.

    lead:  how often the first frame is shown before its time, because the sound starts earlier.
    sound: starts with the first frame. None if there is none, or none is wished.
    """

    facts: VideoFacts
    wish: SourceWish
    fps: Fraction
    count: int
    lead: int
    sound: Sound | None

    def frames(self) -> FrameStream:
        """Yield the frames. One source frame is held, and the one after it if frames are drawn between."""
        timed_frames = read_timed_frames(
            self.facts.path,
            background=self.wish.background,
            salvage=self.wish.salvage,
            keep_hdr=self.wish.keep_hdr,
        )
        if self.wish.interpolator is None:
            return _nearest(timed_frames, self)
        return _drawn(timed_frames, self, self.wish.interpolator)

    @property
    def is_resampled(self) -> bool:
        """Whether the clip has another rate than its file, or the file has none that is constant."""
        return not _times(self.facts).is_constant or self.fps != _times(self.facts).rate


def open_clip(
    path: Path, wish: SourceWish = _AS_IT_IS, tell: Callable[[str], None] | None = None
) -> SourceClip:
    """Measure a video file, decide how it becomes a clip, and tell what changes on the way, a line each.

    tell: None writes to the log. Raises MediaError as `probe` does.
    """
    clip = _clip(probe(path, salvage=wish.salvage, audio_track=wish.audio_track), wish)
    for note in _notes(clip):
        (tell or partial(log.warning, "%s: %s", path.name))(note)
    return clip


def draw_between(clip: SourceClip, edit: Edit, interpolator: Interpolator | None) -> tuple[SourceClip, Edit]:
    """Let the interpolator draw the frames of a resampled clip for where they stand in time.

    Returns the clip with all frames of the result, and what is left of the edit. A clip in the rate of its
    file is returned unchanged: `edited` puts new frames between its frames.
    """
    if interpolator is None or not clip.is_resampled:
        return clip, edit
    fps = clip.fps * (edit.between + 1)
    drawn = _clip(
        clip.facts,
        replace(clip.wish, fps=fps, interpolator=interpolator, scene_threshold=edit.scene_threshold),
    )
    fps_out = fps if edit.adjust_fps else edit.fps
    return drawn, replace(edit, fps=fps_out, interpolator="none", num_interpolated_frames=0)


def _clip(facts: VideoFacts, wish: SourceWish) -> SourceClip:
    times, sound = _times(facts), facts.audio if wish.with_sound else None
    fps = wish.fps or times.rate
    # Whole frames only: the picture stays on its grid, and the sound begins with the first frame.
    lead = 0 if sound is None else math.floor(max(-sound.offset_s, 0) * fps)
    placed = None
    if sound is not None and sound.duration_s:
        start = facts.first_frame_s - lead / fps
        layout = usual_layout(sound.layout, sound.channels)
        placed = FileSound(facts.path, sound.rate, layout, start, wish.audio_track, wish.salvage)
    return SourceClip(facts, wish, fps, times.count(fps, lead), lead, placed)


def _notes(clip: SourceClip) -> list[str]:
    """Return what happens to the frames on the way from the file to the clip, a line each."""
    facts, found = clip.facts, []
    if facts.lost_frames:
        found.append(f"{facts.lost_frames} frames are damaged or missing and left out")
    elif facts.damaged:
        found.append("a part of it is damaged or missing, and nothing says how many frames that were")
    if of_colour := hdr_note(facts.colour, kept=clip.wish.keep_hdr):
        found.append(of_colour)
    if facts.interlaced:
        found.append("interlaced frames are deinterlaced")
    if not _times(facts).is_constant:
        found.append(
            f"its rate varies (frames are up to {facts.largest_deviation_s:.3f} s from a constant one); each "
            f"frame keeps its time at {float(clip.fps):g} fps"
        )
    if clip.lead:
        found.append(f"the picture starts after the sound: its first frame is shown {clip.lead} times more")
    return found


def _times(facts: VideoFacts) -> FrameTimes:
    assert facts.times is not None  # noqa: S101  `probe` measures them
    return facts.times


def _nearest(timed_frames: Iterator[TimedFrame], clip: SourceClip) -> Iterator[Frame]:
    """Yield for each instant the frame that is nearest to it in time."""
    slots = _slots(clip)
    try:
        for number, timed in enumerate(timed_frames):
            if number + 1 == len(slots):
                return  # a salvaged file that gave one frame more than when it was measured
            begin, end = slots[number], slots[number + 1]
            if begin < end:
                frame = timed.frame()
                for _ in range(begin, end):
                    yield frame
    finally:
        close(timed_frames)


def _slots(clip: SourceClip) -> list[int]:
    """Return the first instant of each source frame, and the number of instants."""
    slots = [int(slot) for slot in _times(clip.facts).slots(clip.fps, clip.lead)]
    return [0, *slots[1:], clip.count]


def _drawn(
    timed_frames: Iterator[TimedFrame], clip: SourceClip, interpolator: Interpolator
) -> Iterator[Frame]:
    """Yield a frame for each instant, drawn for where it stands between two frames of the source."""
    before: tuple[float, Frame] | None = None
    made = 0
    frames = marked(_placed(timed_frames, clip), lambda item: item[1], clip.wish.scene_threshold)
    try:
        for after, cut in frames:
            if before is not None:
                wanted = range(made, math.ceil(after[0] - _IN_PLACE))
                instants = [at for at in wanted if at < clip.count]
                yield from _between(before, after, instants, interpolator, cut)
                made = max(made, wanted.stop)
            before = after
        if before is not None:
            for _ in range(made, clip.count):
                yield before[1]
    finally:
        close(frames)


def _placed(timed_frames: Iterator[TimedFrame], clip: SourceClip) -> Iterator[tuple[float, Frame]]:
    """Yield each source frame with its time in instants of the clip."""
    try:
        for timed in timed_frames:
            yield float(timed.seconds) * float(clip.fps) + clip.lead, timed.frame()
    finally:
        close(timed_frames)


def _between(
    before: tuple[float, Frame],
    after: tuple[float, Frame],
    instants: list[int],
    interpolator: Interpolator,
    cut: bool,
) -> Iterator[Frame]:
    held = [at for at in instants if at - before[0] <= _IN_PLACE]
    for _ in held:
        yield before[1]
    span = after[0] - before[0]
    times = [(at - before[0]) / span for at in instants[len(held) :]]
    if times:
        yield from frames_between(interpolator, before[1], after[1], times, cut)
