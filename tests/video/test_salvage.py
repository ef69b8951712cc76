"""Damaged packets and missing tails are refused, or left out and counted where that is asked."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.probe import probe

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
