"""`--hdr keep` writes 10-bit HDR with the codes and the side data of its source."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.video.probe import VideoFacts, probe
from wan_duet.pipelines.video.video_format import FormatWish

from .clips import write
from .hdr_clips import GRADED, RED, SIZE, SKIN, WHITE, write_hdr
from .hdr_reference import of_sdr
from .test_hdr import patches

LIGHTS = [(1000.0, 1000.0, 1000.0), of_sdr(WHITE), of_sdr(RED), of_sdr(SKIN)]


def kept(source: Path, name: str, *flags: str) -> VideoFacts:
    out = source.with_name(name)
    assert main(["media", "convert", str(source), "-o", str(out), "--hdr", "keep", *flags]) == 0
    return probe(out)


def stored(path: Path) -> list[list[int]]:
    """Return the 10-bit codes Y', Cb, Cr in the middle of each patch of the first frame."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
    found = []
    for patch in range(len(LIGHTS)):
        codes = []
        for plane in frame.planes:
            rows = np.frombuffer(bytes(plane), np.uint16).reshape(plane.height, -1)
            scale = frame.width // plane.width
            codes.append(int(rows[SIZE // 2 // scale, (SIZE * patch + SIZE // 2) // scale]))
        found.append(codes)
    return found


@pytest.mark.parametrize(
    ("name", "flags", "codec"),
    [
        ("b.mp4", (), "hevc"),
        ("b.mkv", (), "hevc"),
        ("b.mp4", ("--codec", "av1"), "av1"),
        ("b.webm", (), "av1"),
    ],
)
@pytest.mark.parametrize(("transfer", "full"), [("PQ", False), ("HLG", True)])
def test_pixels_codes_and_side_data_are_kept(
    tmp_path: Path, name: str, flags: tuple[str, ...], codec: str, transfer: str, full: bool
) -> None:
    params = GRADED if transfer == "PQ" else ""
    source = write_hdr(tmp_path / "a.mkv", LIGHTS, transfer, full=full, params=params)
    made, was = kept(source, name, *flags, "--quality", "maximum"), probe(source)
    assert (made.codec, made.pix_fmt, made.frames) == (codec, "yuv420p10le", was.frames)
    assert made.colour == was.colour
    assert made.colour.range == ("pc" if full else "tv")
    assert np.abs(np.array(stored(tmp_path / name)) - stored(source)).max() <= 4
    assert made.content_light == was.content_light
    if transfer == "HLG":
        assert made.mastering_display is was.mastering_display is None
    else:
        assert was.mastering_display is not None
        assert made.mastering_display is not None
        assert made.mastering_display.red == pytest.approx(was.mastering_display.red, abs=1e-4)
        assert made.mastering_display.white == pytest.approx(was.mastering_display.white, abs=1e-4)
        assert made.mastering_display.most == pytest.approx(1000)
        assert made.mastering_display.least == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize("codec", ["h265", "av1"])
def test_another_reader_finds_the_codes_and_the_side_data(tmp_path: Path, codec: str) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe here")
    source = write_hdr(tmp_path / "a.mkv", LIGHTS, "PQ", params=GRADED)
    kept(source, "b.mp4", "--codec", codec)
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_frames", "-show_streams", "-of", "json", tmp_path / "b.mp4"],
        capture_output=True,
        check=True,
    )
    found = json.loads(told.stdout)
    (stream,) = found["streams"]
    assert stream["pix_fmt"] == "yuv420p10le"
    codes = [stream[f"color_{name}"] for name in ("range", "space", "primaries", "transfer")]
    assert codes == ["tv", "bt2020nc", "bt2020", "smpte2084"]
    side = {each["side_data_type"]: each for each in found["frames"][0]["side_data_list"]}
    light = side["Content light level metadata"]
    assert (light["max_content"], light["max_average"]) == (1000, 400)
    screen = side["Mastering display metadata"]
    numerator, denominator = map(int, screen["max_luminance"].split("/"))
    assert numerator / denominator == 1000


def test_what_is_kept_can_be_tone_mapped_later(tmp_path: Path) -> None:
    source = write_hdr(tmp_path / "a.mkv", LIGHTS)
    kept(source, "b.mp4", "--quality", "maximum")
    assert np.abs(np.array(patches(tmp_path / "b.mp4", 4)) - patches(source, 4)).max() <= 2


def test_kept_hdr_is_reversed_and_resampled(tmp_path: Path) -> None:
    source = write_hdr(tmp_path / "a.mkv", LIGHTS, count=4)
    made = kept(source, "b.mp4", "--reverse", "--fps", "50")
    assert (made.frames, made.fps) == (8, 50)
    assert np.abs(np.array(stored(tmp_path / "b.mp4")) - stored(source)).max() <= 8


@pytest.mark.parametrize(
    ("name", "flags", "reason"),
    [
        ("b.mp4", ("--codec", "h264"), "h264"),
        ("b.mov", ("--codec", "prores"), "prores"),
        ("b.webp", (), "webp"),
        ("b.mp4", ("--num-interpolated-frames", "1"), "--hdr"),
        ("b.mp4", ("--fps", "60", "--interpolator", "flow"), "--hdr"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    tmp_path: Path, name: str, flags: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_hdr(tmp_path / "a.mkv", LIGHTS)
    command = ["media", "convert", str(source), "-o", str(tmp_path / name), "--hdr", "keep", *flags]
    assert main(command) in (1, 2)
    said = capsys.readouterr().err
    assert reason in said
    assert "tone-map" in said
    assert not (tmp_path / name).exists()


def test_there_is_nothing_to_keep_in_sdr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.mp4", 2)
    made = kept(tmp_path / "a.mp4", "b.mp4")
    assert (made.codec, made.pix_fmt) == ("h264", "yuv420p")
    assert "SDR" in capsys.readouterr().err


def test_ten_bits_are_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.mkv", 2)
    source = str(tmp_path / "a.mkv")
    for name, codec in (("b.mp4", "h264"), ("c.mp4", "h265"), ("d.mp4", "av1")):
        out = tmp_path / name
        command = ["media", "convert", source, "-o", str(out), "--codec", codec, "--bit-depth", "10"]
        assert main(command) == 0
        assert probe(out).pix_fmt == "yuv420p10le"
    assert main(["media", "convert", source, "-o", str(tmp_path / "e.webm"), "--bit-depth", "10"]) == 1
    assert "vp9 is not written with more than 8 bits; h264, h265, av1" in capsys.readouterr().err


def test_ten_bits_round_less_than_eight(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    errors = []
    for depth in (False, True):
        path = tmp_path / f"{depth}.mp4"
        write(path, 1, iter([ramp]), width=256, quality="maximum", wish=FormatWish("h264", deep=depth))
        with av.open(str(path)) as file:
            plane = next(file.decode(video=0)).planes[0]
        rows = np.frombuffer(bytes(plane), np.uint16 if depth else np.uint8).reshape(64, -1)
        luma = (rows[32, :256] / (4 if depth else 1) - 16) / 219 * 255
        errors.append(np.abs(luma - np.arange(256)).mean())
    assert errors[1] < errors[0]
