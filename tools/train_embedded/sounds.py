"""Sounds like speech for the embedded speech model: bursts of harmonics or noise, with pauses between."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["RATE", "mouth_openings", "speech_like", "write_sound"]

RATE = 16_000  # samples per second, as wav2vec 2.0 reads them
_WINDOW_S = 0.2  # over which a mouth follows the loudness
_LOUDEST = 2.2  # loudness of a wide open mouth, in root mean squares of the whole sound


def speech_like(
    seconds: float, rng: np.random.Generator, voice: np.random.Generator | None = None
) -> npt.NDArray[np.float32]:
    """Return (samples,), mono at RATE, in [-1, 1]: syllables of 0.1 to 0.5 s, most with a pause after them.

    rng:   decides when they sound and how loud.
    voice: decides pitch and timbre, so that two voices can say the same. None goes on with `rng`.
    """
    count = round(seconds * RATE)
    syllables, start = [], rng.uniform(0, 0.4)
    while start < seconds:
        length, loud, bend = rng.uniform(0.1, 0.5), rng.uniform(0.15, 1.0), rng.uniform(0.4, 1.5)
        syllables.append((start, length, loud, bend))
        start += length + (rng.uniform(0.1, 0.6) if rng.random() < 0.6 else 0.0)
    voice = rng if voice is None else voice
    sound, pitch = voice.normal(0, 0.002, count), voice.uniform(90, 300)
    for start, length, loud, bend in syllables:
        first = round(start * RATE)
        times = np.arange(min(round(length * RATE), count - first)) / RATE
        envelope = loud * np.sin(np.pi * np.minimum(times / length, 1)) ** bend
        sound[first : first + len(times)] += envelope * _carrier(times, pitch, voice)
    return (sound / np.abs(sound).max()).astype(np.float32)


def _carrier(
    times: npt.NDArray[np.float64], pitch: float, voice: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return a vowel of 12 harmonics, or in one case of five the noise of a consonant; rms 0.5."""
    if voice.random() < 0.2:
        return voice.normal(0, 0.5, len(times))
    turns = 2 * np.pi * pitch * (times + voice.uniform(-0.15, 0.15) * times**2)
    tilt, formant = voice.uniform(0.5, 1.5), voice.uniform(2, 9)
    orders = np.arange(1, 13)
    strengths = orders**-tilt + 0.5 * np.exp(-((orders - formant) ** 2) / 2)
    waves: npt.NDArray[np.float64] = strengths @ np.sin(np.outer(orders, turns))
    return 0.5 * waves / np.sqrt(np.square(strengths).sum() / 2)


def mouth_openings(sound: npt.NDArray[np.float32], fps: int, frames: int) -> npt.NDArray[np.float32]:
    """Return (frames,), 0 to 1: the loudness around the middle of each frame, relative to the whole sound."""
    window = np.hanning(round(_WINDOW_S * RATE))
    power = np.convolve(np.square(sound.astype(np.float64)), window / window.sum(), mode="same")
    middles = ((np.arange(frames) + 0.5) / fps * RATE).astype(int)
    heard = np.where(middles < len(sound), np.sqrt(power[np.minimum(middles, len(sound) - 1)].clip(0)), 0)
    loud = np.sqrt(np.square(sound.astype(np.float64)).mean()) + 1e-9
    return (heard / (_LOUDEST * loud)).clip(0, 1).astype(np.float32)


def write_sound(file: Path, samples: npt.NDArray[np.float32]) -> Path:
    """Write (samples,), mono at RATE, in [-1, 1], as a WAV file of 16 bits."""
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((samples * 32767).astype("<i2").tobytes())
    return file
