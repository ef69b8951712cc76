"""Sound is read in small blocks, in its place, with the channels that it has."""

from __future__ import annotations

import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.audio import Audio, read_audio
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.sound import FileSound

from .clips import moving, write

RATE = 8_000


def peak_of(path: Path, seconds: int) -> int:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(seconds):
            file.writeframes(b"\1\0\2\0" * RATE)
    tracemalloc.start()
    count = sum(block.shape[1] for block in FileSound(path, RATE, "stereo", Fraction(0)).blocks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == seconds * RATE
    return peak


def test_a_long_sound_needs_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peak_of(tmp_path / "warm.wav", 5)
    short, long = peak_of(tmp_path / "a.wav", 20), peak_of(tmp_path / "b.wav", 200)
    assert long - short < 0.01 * 180 * RATE * 2 * 4  # a hundredth of the samples that it has more


def with_sounds(path: Path, *layouts: str, gap_s: float = 0.0) -> Path:
    """Write a video of 2 s with a sound for each layout. The n-th sound is at the level 0.1 (n + 1)."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=16)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = [output.add_stream("pcm_f32le", rate=RATE, layout=layout) for layout in layouts]
        for picture in moving(32, 64, 48):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for number, (sound, layout) in enumerate(zip(sounds, layouts, strict=True)):
            half = np.full((1, RATE * av.AudioLayout(layout).nb_channels), 0.1 * (number + 1), np.float32)
            for start_s in (0.0, 1.0 + gap_s):
                frame = av.AudioFrame.from_ndarray(half, format="flt", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = RATE, round(start_s * RATE), Fraction(1, RATE)
                output.mux(sound.encode(frame))
    return path


def heard(path: Path) -> np.ndarray:
    """Return the mean over all channels, (n,), with nothing moved."""
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray().mean(0) for frame in file.decode(audio=0)]) / 2**31


def convert(source: Path, name: str, *flags: str) -> Path:
    out = source.with_name(name)
    assert main(["media", "convert", str(source), "-o", str(out), "--write-mode", "fast", *flags]) == 0
    return out


def test_a_gap_in_the_sound_stays_a_gap(tmp_path: Path) -> None:
    made = heard(convert(with_sounds(tmp_path / "a.mkv", "mono", gap_s=0.5), "b.mkv"))
    assert made.shape == (2 * RATE,)  # a sound that is longer than the picture is cut
    for part, level in (((0, 1), 0.1), ((1, 1.5), 0.0), ((1.5, 2), 0.1)):
        begin, end = (round(at * RATE) for at in part)
        assert np.abs(made[begin + 20 : end - 20] - level).max() < 1e-4


@pytest.mark.parametrize(("gap_s", "said"), [(0.0, False), (0.05, False), (0.3, True)])
def test_a_sound_that_goes_on_after_the_picture_is_cut_and_that_is_said(
    tmp_path: Path, gap_s: float, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = heard(convert(with_sounds(tmp_path / "a.mkv", "mono", gap_s=gap_s), "b.mkv"))
    assert made.shape == (2 * RATE,)
    assert ("the sound goes on after the picture; what follows is left out" in caplog.messages) == said


@pytest.mark.parametrize("track", [0, 1, 2])
def test_every_sound_of_a_file_can_be_chosen(tmp_path: Path, track: int) -> None:
    source = with_sounds(tmp_path / "a.mkv", "mono", "mono", "mono")
    made = heard(convert(source, "b.mkv", "--audio-track", str(track)))
    assert made.mean() == pytest.approx(0.1 * (track + 1), abs=1e-4)


def test_a_sound_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = with_sounds(tmp_path / "a.mkv", "mono", "stereo")
    with pytest.raises(MediaError, match=r"audio track 2: .*a\.mkv has 2 sounds, numbered from 0"):
        probe(source, audio_track=2)


LAYOUTS = ["mono", "stereo", "2.1", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
def test_channels_are_kept_or_their_change_is_said(
    tmp_path: Path, layout: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = with_sounds(tmp_path / "a.avi", layout)  # an AVI says which channel is which
    made = probe(convert(source, f"out.{suffix}")).audio
    assert made is not None
    if made.layout != layout:
        said = (
            f"mixed from {layout} to {made.layout}",
            f"{made.channels} channels of {layout}, but not the place",
        )
        assert any(line in caplog.text for line in said)
    assert suffix == "webm" or made.channels == av.AudioLayout(layout).nb_channels


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
def test_every_channel_of_7_1_keeps_its_sound(tmp_path: Path, suffix: str) -> None:
    """PyAV 18.1 reads beyond eight planes of a frame, which raises IndexError or ends the process."""
    pitches = [300.0 * (number + 1) for number in range(8)]
    pitches[3] = 60.0  # encoders cut the highs of the channel for low frequencies
    tones = np.stack([np.sin(2 * np.pi * pitch * np.arange(48_000) / 48_000) * 0.3 for pitch in pitches])
    source = write(tmp_path / f"a.{suffix}", 16, audio=Audio(tones.astype(np.float32), 48_000)).path
    for file in (source, convert(source, "b.mkv")):
        back = read_audio(file)
        assert back is not None
        spectrum = np.abs(np.fft.rfft(back.samples[:, 4_800:43_200]))
        assert spectrum.argmax(1) * (48_000 / 38_400) == pytest.approx(pitches, abs=2)


def test_a_file_without_sound_is_written_without(tmp_path: Path) -> None:
    assert probe(convert(write(tmp_path / "a.mkv", 3).path, "b.mp4")).audio is None
