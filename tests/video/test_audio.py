from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.audio import Audio, read_audio
from wan_duet.pipelines.video.probe import probe

from .clips import moving, tone, write

VIDEOS = ("mp4", "webm", "mkv")
CODECS = {"mp4": "aac", "webm": "opus", "mkv": "flac"}


@pytest.mark.parametrize("suffix", VIDEOS)
def test_a_longer_sound_ends_with_the_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 33, audio=tone(4))
    sound = probe(path).audio
    assert sound is not None
    assert sound.codec == CODECS[suffix]
    assert sound.duration_s == pytest.approx(33 / 16, abs=1024 / 44_100)  # AAC comes in blocks of 1024
    assert probe(path).duration_s == pytest.approx(33 / 16, abs=1e-3)


@pytest.mark.parametrize("suffix", VIDEOS)
def test_a_shorter_sound_leaves_the_pictures_as_long_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 33, audio=tone(0.5))
    found = probe(path)
    assert found.frames == 33
    assert found.duration_s == pytest.approx(33 / 16, abs=1e-3)
    assert found.audio is not None
    assert found.audio.duration_s == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("suffix", VIDEOS)
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (37_800, 2), (48_000, 6)])
def test_the_sound_that_comes_back_is_the_one_that_went_in(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 32, audio=tone(2, rate, channels))
    back = read_audio(path)
    assert back is not None
    assert len(back.samples) == channels
    front = back.samples[0, back.rate // 4 : back.rate // 4 * 7]  # away from the edges of the filters
    spectrum = np.abs(np.fft.rfft(front * np.hanning(len(front))))
    assert np.argmax(spectrum) * back.rate / len(front) == pytest.approx(440, abs=2)
    assert np.abs(front).max() == pytest.approx(0.5, abs=0.06)


def test_a_lossless_master_keeps_the_sound_to_24_bits(tmp_path: Path) -> None:
    sound = tone(33 / 16)
    write(tmp_path / "a.mkv", 33, audio=sound)
    back = read_audio(tmp_path / "a.mkv")
    assert back is not None
    count = sound.samples.shape[1]
    assert np.abs(back.samples[:, :count] - sound.samples).max() <= 2.0**-23


def test_sound_and_pictures_lie_side_by_side_in_the_file(tmp_path: Path) -> None:
    """One after the other would make a player seek, and a stream wait for its end."""
    import av

    write(tmp_path / "a.mkv", 33, audio=tone(4))
    with av.open(str(tmp_path / "a.mkv")) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.size]
    first_half = kinds[: len(kinds) // 2]
    assert 10 <= first_half.count("video") <= 24


def test_a_file_without_sound_has_none(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    assert read_audio(tmp_path / "a.mp4") is None
    assert probe(tmp_path / "a.mp4").audio is None


def test_a_thumbnail_has_no_sound(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"\.webp file has no sound"):
        write(tmp_path / "a.webp", audio=tone(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 10), r"\(3, 10\)"), ((2, 0), r"\(2, 0\)"), ((10,), r"\(10,\)")]
)
def test_a_sound_of_another_shape_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        Audio(np.zeros(shape, np.float32), 48_000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_sound_is_refused(value: float) -> None:
    with pytest.raises(MediaError, match="NaN or Inf"):
        Audio(np.full((1, 9), value, np.float32), 48_000)


def test_a_sound_without_a_rate_is_refused() -> None:
    with pytest.raises(MediaError, match="0 samples per second"):
        Audio(np.zeros((1, 9), np.float32), 0)


@pytest.mark.parametrize("suffix", VIDEOS)
@pytest.mark.parametrize("samples", [1, 100])
def test_a_very_short_sound_breaks_nothing(tmp_path: Path, suffix: str, samples: int) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 2, audio=Audio(np.zeros((1, samples), np.float32), 44_100), fps=Fraction(4), frames=moving(2))
    assert probe(path).frames == 2
