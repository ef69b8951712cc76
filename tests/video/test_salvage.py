"""Damaged packets and missing tails are refused, or left out and counted where that is asked."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.sound import sound_frame

from .clips import soft, tone, write

FRAMES = 40


def clip(path: Path) -> Path:
    return write(path, FRAMES, soft(FRAMES), quality="maximum", audio=tone(FRAMES / 16)).path


def damage(path: Path, numbers: range) -> None:
    """Overwrite whole packets of the picture."""
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        at, size = packets[number]
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)


def convert(source: Path, *flags: str) -> int:
    return main(["media", "convert", str(source), "-o", str(source.with_name("out.mp4")), *flags])


def test_a_damaged_packet_is_refused_and_the_way_out_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "a.mp4")
    damage(source, range(20, 21))
    assert convert(source) == 1
    assert "a.mp4 is damaged; `media convert --salvage`" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("numbers", [range(20, 21), range(15, 18)])
def test_damaged_packets_are_left_out_and_counted(
    tmp_path: Path, numbers: range, caplog: pytest.LogCaptureFixture
) -> None:
    source = clip(tmp_path / "a.mp4")
    damage(source, numbers)
    facts = probe(source, salvage=True)
    assert facts.lost_frames == FRAMES - facts.frames
    assert facts.lost_frames >= len(numbers)
    assert convert(source, "--salvage") == 0
    assert f"{facts.lost_frames} frames are damaged or missing and left out" in caplog.text
    made = probe(tmp_path / "out.mp4")
    assert (
        made.frames == FRAMES
    )  # what is lost is bridged by the frame before, so that the sound stays in place
    assert made.audio is not None
    assert made.audio.duration_s == pytest.approx(FRAMES / 16, abs=0.05)


@pytest.mark.parametrize("kept", [0.4, 0.8])
def test_a_missing_tail_is_refused_or_counted(
    tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture
) -> None:
    source = clip(tmp_path / "a.mp4")
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(MediaError, match=r"a\.mp4"):
        probe(source)
    facts = probe(source, salvage=True)
    assert 0 < facts.frames < FRAMES
    assert facts.frames + facts.lost_frames == FRAMES
    assert convert(source, "--salvage") == 0
    assert f"{facts.lost_frames} frames are damaged or missing" in caplog.text
    assert (
        facts.frames <= probe(tmp_path / "out.mp4").frames < FRAMES
    )  # a frame that is lost in between is bridged


def test_a_whole_file_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.mp4", "a.mkv", "a.webm"):
        source = clip(tmp_path / name)
        assert probe(source, salvage=True).lost_frames == 0
        assert convert(source, "--salvage") == 0
    assert "damaged" not in caplog.text
    assert np.isfinite(probe(source).duration_s)


# {file: (container, picture, sound, options)}
CUT = {
    "a.mp4": ("mp4", "mpeg4", "aac", {"movflags": "faststart"}),
    "fragments.mp4": ("mp4", "mpeg4", "aac", {"movflags": "frag_every_frame+empty_moov"}),
    "a.mov": ("mov", "mpeg4", "aac", {"movflags": "faststart"}),
    "a.mkv": ("matroska", "mpeg4", "aac", {}),
    "live.mkv": ("matroska", "mpeg4", "aac", {"live": "1"}),
    "a.webm": ("webm", "libvpx", "libopus", {}),
    "a.avi": ("avi", "mpeg4", "libmp3lame", {}),
    "a.flv": ("flv", "flv", "libmp3lame", {}),
    "a.ts": ("mpegts", "mpeg2video", "mp2", {}),
    "a.mpg": ("vob", "mpeg2video", "mp2", {}),
    "a.ogv": ("ogg", "libvpx", "libopus", {}),
}


@cache
def content_of(name: str) -> bytes:
    container, picture, of_sound, options = CUT[name]
    with TemporaryDirectory() as folder:
        place = Path(folder, name)
        with av.open(str(place), "w", format=container, options=options) as output:
            video = output.add_stream(picture, rate=25)
            video.width, video.height, video.pix_fmt, video.bit_rate = 112, 64, "yuv420p", 2_000_000
            audio = output.add_stream(of_sound, rate=48_000, layout="stereo")
            samples = tone(FRAMES / 25, 48_000).samples
            for number, pixels in enumerate(soft(FRAMES)):
                output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                heard = sound_frame(samples[:, number * 1920 : (number + 1) * 1920], "stereo")
                heard.sample_rate, heard.pts = 48_000, number * 1920
                output.mux(audio.encode(heard))
            output.mux(video.encode(None))
            output.mux(audio.encode(None))
        return place.read_bytes()


def told(source: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether a file is refused as it is, and what is lost in it is told where it is salvaged."""
    source.write_bytes(content)
    refused = convert(source) == 1
    caplog.clear()
    salvaged = convert(source, "--salvage") == 0
    return refused and (not salvaged or "damaged or missing" in caplog.text)


@pytest.mark.parametrize("name", sorted(CUT))
def test_a_cut_file_never_becomes_a_short_video_without_a_word(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, source, random = content_of(name), tmp_path / name, np.random.default_rng(3)
    source.write_bytes(whole)
    assert convert(source) == 0
    for place in [*random.integers(len(whole) // 20, len(whole), 3).tolist(), len(whole) // 2 + 1]:
        assert told(source, whole[: place - (name == "a.ts" and place % 188 == 0)], caplog), place


@pytest.mark.parametrize("name", sorted({*CUT} - {"a.ts", "a.mpg", "a.mp4", "a.mov"}))
def test_a_part_that_is_not_where_it_must_be_is_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stretch in the middle is overwritten that is longer than a frame, with the heads of parts in it."""
    whole, source = content_of(name), tmp_path / name
    place = len(whole) // 2
    noise = np.random.default_rng(4).integers(0, 256, 4000, np.uint8).tobytes()
    assert told(source, whole[:place] + noise + whole[place + len(noise) :], caplog)


def test_a_file_without_its_table_of_frames_is_said_to_be_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    container, picture, _, _ = CUT["a.mp4"]
    memory = BytesIO()
    with av.open(memory, "w", format=container) as output:
        video = output.add_stream(picture, rate=25)
        video.width, video.height, video.pix_fmt = 112, 64, "yuv420p"
        for pixels in soft(FRAMES):
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        output.mux(video.encode(None))
    source = tmp_path / "a.mp4"
    source.write_bytes(memory.getvalue()[:-2000])
    assert convert(source, "--salvage") == 1
    assert "what describes its frames is missing; download or copy it again" in capsys.readouterr().err
