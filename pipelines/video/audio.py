"""Reads the sound of a file, and encodes sound beside the frames of a video. Never stretches it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer

from ..errors import MediaError
from .chosen_streams import sound_stream
from .frame_stream import close
from .open_media import open_media
from .sound import Samples, Sound, sound_frame, stored_samples

log = logging.getLogger(__name__)

__all__ = ["Audio", "AudioTrack", "mono_at", "read_audio"]

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
# Layouts whose speakers a reader of ffmpeg's AAC finds again (8.0, asked). Of others it only counts channels.
_NAMED_BY_AAC = {"mono", "stereo", "2.1", "3.0", "3.0(back)", "4.0", "quad", "5.0", "5.1", "7.1"}
_SIDE_AS_BACK = {"quad(side)": "quad", "5.0(side)": "5.0", "5.1(side)": "5.1"}
_ANY_RATE = 48_000  # supported by every encoder that we use
_UNHEARD_S = 0.1  # encoders fill their last frame, so most sounds are a little longer than the picture


@dataclass(frozen=True)
class Audio:
    """A sound.

    samples: (channels, n) float32, -1 to 1.
    rate:    samples per second.

    Raises MediaError if it is empty, contains NaN or Inf, or has a number of channels that no file can hold.
    """

    samples: npt.NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        shape = self.samples.shape
        if self.samples.ndim != 2 or shape[0] not in _LAYOUTS or not shape[1]:
            raise MediaError(
                f"the audio has the shape {shape}; (channels, samples) with "
                f"{', '.join(map(str, _LAYOUTS))} channels and at least one sample works"
            )
        if self.rate < 1:
            raise MediaError(f"the audio has {self.rate} samples per second; 44100 or 48000 is usual")
        if not np.isfinite(self.samples).all():
            raise MediaError("the audio contains NaN or Inf; check the node or file that produced it")

    @property
    def layout(self) -> str:
        return _LAYOUTS[len(self.samples)]

    def blocks(self) -> Iterator[Samples]:
        """Yield the whole sound at once: it is in memory already."""
        yield self.samples


class AudioTrack:
    """Encodes one sound into a container, beside the frames. Used by the encoder thread.

    A sound longer than the video is cut, which is said. After a shorter one the video is silent.
    """

    def __init__(
        self, output: OutputContainer, encoder: str, sound: Sound, frame_count: int, fps: Fraction
    ) -> None:
        rates = av.codec.Codec(encoder, "w").audio_rates
        rate = sound.rate if not rates or sound.rate in rates else _ANY_RATE
        self._output, self._rate, self._fps, self._at = output, sound.rate, fps, 0
        self._end = math.ceil(sound.rate * frame_count / fps)
        self._blocks, self._rest = sound.blocks(), np.zeros((0, 0), np.float32)
        self._layout = sound.layout
        written = _writable_layout(encoder, sound.layout, rate)
        stream = output.add_stream(encoder, rate=rate, layout=written)
        self._stream = cast(av.AudioStream, stream)
        if encoder == "flac":
            # 24 bits per sample. The default of 16 would be audible after editing.
            self._stream.codec_context.format = "s32"

    def write_until(self, frame_count: int) -> None:
        """Encode the sound of the first `frame_count` frames, except what is encoded already."""
        until = min(self._end, math.ceil(self._rate * frame_count / self._fps))
        while self._at < until:
            if not self._rest.shape[1]:
                block = next(self._blocks, None)
                if block is None:
                    return
                self._rest = block
            now = self._rest[:, : until - self._at]
            self._rest = self._rest[:, now.shape[1] :]
            if now.shape[1]:
                self._encode(now)

    def _encode(self, samples: Samples) -> None:
        frame = sound_frame(samples, self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._at, Fraction(1, self._rate)
        self._at += samples.shape[1]
        self._output.mux(self._stream.encode(frame))

    def finish(self) -> None:
        after, much = self._rest.shape[1], self._rate * _UNHEARD_S
        while after <= much and (block := next(self._blocks, None)) is not None:
            after += block.shape[1]
        if after > much:
            log.warning("the sound goes on after the picture; what follows is left out")
        self._output.mux(self._stream.encode(None))

    def close(self) -> None:
        """Close the source of the sound."""
        close(self._blocks)


def _writable_layout(encoder: str, layout: str, rate: int) -> str:
    """Return the layout that `encoder` writes for `layout`. Says so if it is another, or not stored whole."""
    channels = av.AudioLayout(layout).nb_channels
    first = _SIDE_AS_BACK.get(layout, layout) if encoder == "aac" else layout
    for candidate in (first, _LAYOUTS.get(channels, ""), "5.1" if channels > 5 else "", "stereo"):
        if candidate and _encodes(encoder, candidate, rate):
            if candidate != layout:
                log.warning(
                    "the sound is mixed from %s to %s: all that %s stores", layout, candidate, encoder
                )
            if encoder == "aac" and candidate not in _NAMED_BY_AAC:
                log.warning(
                    "aac stores the %d channels of %s, but not the place of each", channels, candidate
                )
            return candidate
    raise MediaError(f"{encoder} cannot store a sound of {channels} channels; leave the sound out")


def _encodes(encoder: str, layout: str, rate: int) -> bool:
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.AudioCodecContext)  # noqa: S101
    context.sample_rate, context.layout = rate, layout
    context.format = av.codec.Codec(encoder, "w").audio_formats[0]
    try:
        context.open()
    except (ValueError, av.FFmpegError):
        return False
    return True


def read_audio(file: Path | bytes) -> Audio | None:
    """Read the first sound of a file. None if it has none. Unusual channel layouts are mixed down to stereo.

    Raises MediaError if the file or its sound cannot be read.
    """
    name = "the file" if isinstance(file, bytes) else str(file)
    try:
        with open_media(file) as container:
            stream = sound_stream(container, name)
            if stream is None:
                return None
            rate = stream.codec_context.sample_rate
            layout = stream.codec_context.layout.name
            resampler = av.AudioResampler(format="flt", layout=_known(layout), rate=rate)
            parts = [
                stored_samples(part)
                for frame in container.decode(stream)
                for part in resampler.resample(frame)
            ]
            parts += [stored_samples(part) for part in resampler.resample(None)]
    except (OSError, ValueError, av.FFmpegError) as error:
        raise MediaError(f"cannot read the sound of {name}: {error}; leaving the sound out works") from error
    if not parts:
        raise MediaError(f"the sound of {name} has no samples; leaving the sound out works")
    return Audio(np.concatenate(parts, 1), rate)


def mono_at(audio: Audio, rate: int) -> npt.NDArray[np.float32]:
    """Mix all channels to mono (n,) at `rate` samples per second. The duration stays, to the sample."""
    mono: npt.NDArray[np.float32] = audio.samples.mean(0, dtype=np.float32)
    if audio.rate == rate:
        return mono
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    sound = sound_frame(mono[None], "mono")
    sound.sample_rate, sound.pts, sound.time_base = audio.rate, 0, Fraction(1, audio.rate)
    parts = [part.to_ndarray()[0] for given in (sound, None) for part in resampler.resample(given)]
    count = max(round(len(mono) * rate / audio.rate), 1)
    found = np.concatenate(parts)[:count] if parts else np.zeros(0, np.float32)
    whole: npt.NDArray[np.float32] = np.pad(found, (0, count - len(found)))
    return whole


def _known(layout: str) -> str:
    return layout if layout in _LAYOUTS.values() else "stereo"
