"""Reads what a video file contains. Decodes every frame instead of trusting the header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from ..errors import MediaError
from .chosen_streams import picture_stream, sound_stream
from .colour import (
    Colour,
    ContentLight,
    MasteringDisplay,
    colour_of,
    content_light,
    mastering_display,
)
from .decoding import Tally, decoded
from .frame_pixels import shown_size
from .frame_times import FrameTimes
from .open_media import exact_fraction, open_animation, open_media, tags_of
from .read import SOME_RATE, stated_rate, timed
from .stated_end import is_cut_off
from .tags import with_own_names
from .webp_tags import read_webp_tags

__all__ = ["AudioFacts", "VideoFacts", "probe", "verify"]


@dataclass(frozen=True)
class AudioFacts:
    """The sound of a file. rate: samples per second. layout: of its channels, in libav's words.

    offset_s: when it starts, in seconds from the first frame on. Below 0 if it starts before the picture.
    """

    codec: str
    rate: int
    channels: int
    duration_s: float
    layout: str = ""
    offset_s: float = 0.0


@dataclass(frozen=True)
class VideoFacts:
    """The facts about a video file.

    width, height: in pixels, as a player shows it: with square pixels, and after a rotation.
    frames:        number of frames. duration_s: how long they are shown, in seconds.
    first_frame_s: when the first frame appears, in seconds of the file's clock.
    times:         when each frame appears. None for a file that was just written.
    lost_frames:   how many frames are damaged or missing, in a file that was salvaged.
    damaged:       whether a part of it is damaged or missing, even if nothing says how many frames that are.
    interlaced:    whether a frame of it shows two instants, line by line. Such frames are deinterlaced.
    colour, mastering_display, content_light: what it says of its colours. Unknown for a file that was just
                   written.
    """

    path: Path
    width: int
    height: int
    frames: int
    fps: Fraction
    duration_s: float
    codec: str
    pix_fmt: str
    tags: Mapping[str, str] = field(default_factory=dict)
    audio: AudioFacts | None = None
    first_frame_s: Fraction = Fraction(0)
    times: FrameTimes | None = field(default=None, compare=False, repr=False)
    lost_frames: int = 0
    damaged: bool = False
    interlaced: bool = False
    colour: Colour = field(default=Colour(), compare=False)
    mastering_display: MasteringDisplay | None = field(default=None, compare=False)
    content_light: ContentLight | None = field(default=None, compare=False)

    @property
    def largest_deviation_s(self) -> float | None:
        """How far a frame is from where a constant rate would put it, at most. None if that is unknown."""
        return None if self.times is None else self.times.largest_deviation_s


def probe(path: Path, *, salvage: bool = False, audio_track: int = 0) -> VideoFacts:
    """Decode all frames of the first video stream of `path`, and all samples of one sound.

    salvage:     leave out what is damaged, and count it.
    audio_track: the number of the sound, 0 is the first.

    Raises MediaError if the file is missing or damaged, or has no video stream, or no such sound.
    """
    path = Path(path)
    cut_off = False
    try:
        if path.suffix.lower() == ".webp":
            return _probe_webp(path)
        cut_off = is_cut_off(path)
        with open_media(path) as container:
            if cut_off and not salvage:
                picture_stream(container, str(path))
                raise MediaError(
                    f"{path} is cut off, or damaged in its middle; `media convert --salvage` keeps the rest"
                )
            try:
                return _probe_video(path, container, salvage, audio_track, cut_off)
            except av.InvalidDataError as error:
                raise MediaError(
                    f"{path} is damaged; `media convert --salvage` leaves out what is"
                ) from error
    except (OSError, av.FFmpegError) as error:
        why = error.strerror or error
        if cut_off:
            why = "it is cut off, and what describes its frames is missing; download or copy it again"
        raise MediaError(f"cannot read {path} as a video: {why}") from error


def _probe_video(
    path: Path, container: InputContainer, salvage: bool, audio_track: int, cut_off: bool
) -> VideoFacts:
    stream, sound = picture_stream(container, str(path)), sound_stream(container, str(path), audio_track)
    tally, heard = Tally(), _Heard()
    turn, size, first, interlaced = 0, (0, 0), Fraction(0), False
    screen, light = None, None

    def pictures() -> Iterator[av.VideoFrame]:
        for frame in decoded(
            container, [stream] if sound is None else [stream, sound], salvage=salvage, tally=tally
        ):
            if isinstance(frame, av.VideoFrame):
                yield frame
            else:
                heard.add(frame)

    def spans() -> Iterator[tuple[float, float]]:
        nonlocal turn, size, first, interlaced, screen, light
        for number, (frame, at, end) in enumerate(timed(pictures(), stream)):
            if not number:
                turn, size, first = frame.rotation, (frame.width, frame.height), at
                screen, light = mastering_display(frame), content_light(frame)
            interlaced = interlaced or frame.interlaced_frame
            yield float(at - first), float(end - first)

    fps = stated_rate(stream)
    times = FrameTimes.of(spans(), fps or SOME_RATE)
    frames = len(times.starts)
    if not frames or fps is None:
        raise MediaError(f"{path} has a video stream without a single readable frame")
    lost = tally.missing(stream, frames)
    base = exact_fraction(stream.time_base)
    known = stream.duration is not None and base is not None and not lost
    shape = shown_size(*size, exact_fraction(stream.sample_aspect_ratio) or Fraction(1))
    width, height = shape[::-1] if round(turn / 90) % 2 else shape
    return VideoFacts(
        path=path,
        width=width,
        height=height,
        frames=frames,
        fps=fps,
        duration_s=float(stream.duration * base) if known else times.end,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=str(stream.codec_context.pix_fmt),
        tags=with_own_names(tags_of(container)),
        audio=None if sound is None else heard.facts(sound, first),
        first_frame_s=first,
        times=times,
        lost_frames=lost,
        damaged=cut_off or bool(lost or tally.damaged.total()),
        interlaced=interlaced,
        colour=colour_of(stream, path),
        mastering_display=screen,
        content_light=light,
    )


class _Heard:
    """Counts the samples of a sound, and notes when it starts."""

    def __init__(self) -> None:
        self.samples = 0
        self._start: Fraction | None = None

    def add(self, frame: av.AudioFrame) -> None:
        base = exact_fraction(frame.time_base)
        if self._start is None and frame.pts is not None and base is not None:
            self._start = frame.pts * base - Fraction(self.samples, frame.sample_rate)
        self.samples += frame.samples

    def facts(self, stream: av.AudioStream, first_picture: Fraction) -> AudioFacts:
        context = stream.codec_context
        rate, layout = context.sample_rate, context.layout
        offset = float((self._start or 0) - first_picture) if self.samples else 0.0
        name = context.codec.canonical_name
        return AudioFacts(name, rate, layout.nb_channels, self.samples / rate, layout.name, offset)


def _probe_webp(path: Path) -> VideoFacts:
    with open_animation(path, str(path)) as image:
        shown = []  # milliseconds of each frame
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            shown.append(image.info.get("duration", 0))
        tags = read_webp_tags(image.getexif())
        frames, end = len(shown), sum(shown)
        # A still image has no rate.
        fps = Fraction(1000 * frames, end) if end else Fraction(1)
        ends = np.cumsum([each or 1000 / SOME_RATE for each in shown]) / 1000
        times = FrameTimes(np.concatenate(([0.0], ends[:-1])).astype(float), float(ends[-1]), fps)
        size = image.width, image.height
        return VideoFacts(path, *size, frames, fps, end / 1000, "webp", "bgra", tags, times=times)


_RATE_STEP = 1e-5  # Matroska stores nanoseconds per frame, and libav estimates the rate from them


def verify(facts: VideoFacts, *, frames: int, width: int, height: int, fps: Fraction) -> None:
    """Raise MediaError that names every difference between the file and the expected values."""
    pairs = (
        ("frames", facts.frames, frames),
        ("width", facts.width, width),
        ("height", facts.height, height),
        ("fps", fps if abs(facts.fps / fps - 1) <= _RATE_STEP else facts.fps, fps),
    )
    wrong = [f"{name} is {found}, expected {wanted}" for name, found, wanted in pairs if found != wanted]
    if wrong:
        raise MediaError(f"{facts.path} is not the video that was planned: {'; '.join(wrong)}")
