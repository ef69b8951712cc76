"""Sound as a stream of blocks that keep their place, so that its length needs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt

from ..errors import MediaError
from .chosen_streams import sound_stream
from .decoding import decoded
from .open_media import exact_fraction, open_media

__all__ = ["FileSound", "Samples", "Sound", "sound_frame", "stored_samples", "usual_layout"]

Samples = npt.NDArray[np.float32]
"""(channels, n) float32, -1 to 1."""

# The usual layout of each number of channels, where a file names none.
_LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1")
# From so many channels on, PyAV 18.1 reads beyond the planes of a planar frame, which ends the process.
_PLANES_END = 8
_MOST_EARLY = 64  # frames without a time at the start that are held until one has a time
_JITTER_S = 0.015  # less than half a frame at 30 fps; some containers round times, or state them roughly


class Sound(Protocol):
    """A sound that can be read once or more, from its start."""

    @property
    def rate(self) -> int:
        """Samples per second."""

    @property
    def layout(self) -> str:
        """The channels, in libav's words, such as stereo or 5.1."""

    def blocks(self) -> Iterator[Samples]:
        """Yield the samples from the start on."""


@dataclass(frozen=True)
class FileSound:
    """A sound in a file, in place: silence where the file has none, nothing moved.

    start_s: the instant of the file's clock with which the blocks start, in seconds.
    track:   the number of the sound. salvage: leave out what is damaged.
    """

    path: Path
    rate: int
    layout: str
    start_s: Fraction
    track: int = 0
    salvage: bool = False

    def blocks(self) -> Iterator[Samples]:
        """Yield the samples. Raises MediaError if the sound cannot be read."""
        try:
            with open_media(self.path) as container:
                stream = sound_stream(container, str(self.path), self.track)
                assert stream is not None  # noqa: S101  a FileSound is made for a sound that was found
                frames = decoded(container, [stream], salvage=self.salvage)
                yield from _placed(frames, self.rate, self.layout, self.start_s)
        except (OSError, ValueError, av.FFmpegError) as error:
            raise MediaError(
                f"cannot read the sound of {self.path}: {error}; leaving the sound out works"
            ) from error


def usual_layout(layout: str, channels: int) -> str:
    """Return the layout, or the usual one for so many channels where the file only counts them."""
    named = not layout.endswith("channels")  # "3 channels": libav's name of what it does not know
    return layout if named else _LAYOUTS[min(channels, len(_LAYOUTS)) - 1]


def _placed(frames: Iterator[av.AudioFrame], rate: int, layout: str, start_s: Fraction) -> Iterator[Samples]:
    """Yield the samples of `frames` from `start_s` on: gaps are silence, what overlaps is cut."""
    done = place = 0  # samples yielded, and the place of the next one, counted from the start
    for number, (told, frame) in enumerate(_with_places(frames, rate, start_s)):
        if told is not None and (not number or abs(told - place) > _JITTER_S * rate):
            place = told
        for samples in _float_samples(frame, rate, layout):
            yield from _silence(place - done, len(samples), rate)
            done = max(done, place)
            kept = samples[:, done - place :]
            place += samples.shape[1]
            if kept.shape[1]:
                yield kept
                done += kept.shape[1]


def _with_places(
    frames: Iterator[av.AudioFrame], rate: int, start_s: Fraction
) -> Iterator[tuple[int | None, av.AudioFrame]]:
    """Yield each frame with its place. Those without a time at the start lie before the first with one."""
    early: list[av.AudioFrame] = []
    for frame in frames:
        early.append(frame)
        told = _place_of(frame, rate, start_s)
        if told is not None or len(early) > _MOST_EARLY:
            break
    else:
        told = None
    for at, frame in enumerate(early):
        after = sum(each.samples for each in early[at:-1])
        yield None if told is None else told - after, frame
    for frame in frames:
        yield _place_of(frame, rate, start_s), frame


def _float_samples(frame: av.AudioFrame, rate: int, layout: str) -> Iterator[Samples]:
    """Yield the samples of a frame. One that differs from the rest of its sound is converted."""
    channels = av.AudioLayout(layout).nb_channels
    if frame.sample_rate != rate or frame.layout.nb_channels != channels:
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        for given in (frame, None):
            for part in resampler.resample(given):
                yield np.asarray(stored_samples(part), np.float32)
        return
    # Not by a resampler: it would mix where the file does not name its channels.
    planes = stored_samples(frame)
    if planes.dtype.kind == "f":
        yield planes.astype(np.float32)
        return
    middle = 128 if planes.dtype == np.uint8 else 0
    full = 2.0 ** (8 * planes.dtype.itemsize - 1)
    yield ((planes.astype(np.float64) - middle) / full).astype(np.float32)


def stored_samples(frame: av.AudioFrame) -> npt.NDArray[Any]:
    """Return the samples of a frame: (channels, n), in the type in which they are stored."""
    channels = frame.layout.nb_channels
    if frame.format.is_planar and channels < _PLANES_END:
        return np.asarray(frame.to_ndarray())
    parts = [frame]
    if frame.format.is_planar:
        packer = av.AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
        parts = [part for given in (frame, None) for part in packer.resample(given)]
    packed = np.concatenate([part.to_ndarray() for part in parts], 1)
    return np.asarray(packed.reshape(-1, channels).T)


def sound_frame(samples: Samples, layout: str) -> av.AudioFrame:
    """Return a frame with `samples`, not planar, so that it may have any number of channels."""
    packed = np.ascontiguousarray(samples.T, np.float32).reshape(1, -1)
    return av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)


def _place_of(frame: av.AudioFrame, rate: int, start_s: Fraction) -> int | None:
    base = exact_fraction(frame.time_base)
    return None if frame.pts is None or base is None else round((frame.pts * base - start_s) * rate)


def _silence(count: int, channels: int, rate: int) -> Iterator[Samples]:
    """Yield `count` samples of silence, at most a second at a time."""
    while count > 0:
        now = min(count, rate)
        yield np.zeros((channels, now), np.float32)
        count -= now
