"""HDR is tone-mapped to SDR by the formulas of the ITU, and said."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.generate.media_inputs import media_findings
from wan_duet.pipelines.request import check, parse
from wan_duet.pipelines.video.colour import Colour
from wan_duet.pipelines.video.dolby_vision import DolbyVision
from wan_duet.pipelines.video.hdr import hdr_note
from wan_duet.pipelines.video.hdr_frames import to_sdr
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames
from wan_duet.pipelines.video.tone_map import WHITE_NITS, ToneMap

from .hdr_clips import GRADED, RED, SIZE, SKIN, WHITE, write_hdr
from .hdr_reference import hlg_nits, of_sdr, pq, pq_nits, tone_mapped


def patches(path: Path, count: int) -> list[list[int]]:
    frame = next(read_frames(path))
    return [frame[SIZE // 2, SIZE * at + SIZE // 2].tolist() for at in range(count)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
def test_sdr_colours_in_hdr_come_back(tmp_path: Path, transfer: str, suffix: str) -> None:
    """With nothing brighter than white at 203 cd/m2 there is nothing to compress."""
    colours = [WHITE, RED, SKIN]
    path = write_hdr(tmp_path / f"a.{suffix}", [of_sdr(each) for each in colours], transfer)
    assert np.abs(np.array(patches(path, 3)) - colours).max() <= 3
    assert patches(path, 3)[0] == [255, 255, 255]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("transfer", ["HLG", "PQ"])
def test_light_above_white_is_compressed_as_the_report_says(
    tmp_path: Path, transfer: str, full: bool
) -> None:
    """White at 1000 cd/m2 is the brightest; the others are white, a lamp beyond BT.709, skin and grey."""
    lights = [
        (1000.0, 1000.0, 1000.0),
        of_sdr(WHITE),
        (600.0, 90.0, 20.0),
        of_sdr(SKIN),
        of_sdr((60, 60, 60)),
    ]
    path = write_hdr(tmp_path / "a.mkv", lights, transfer, full=full)
    wanted = [tone_mapped(light, 1000.0) for light in lights]
    assert np.abs(np.array(patches(path, 5)) - wanted).max() <= 3
    assert wanted[0] == (255, 255, 255)
    assert 210 < wanted[1][0] < 245


@pytest.mark.parametrize(("transfer", "code"), [("PQ", 16), ("HLG", 18)])
def test_every_colour_is_mapped_as_by_the_formulas(transfer: str, code: int) -> None:
    random = np.random.default_rng(code)
    signal = random.integers(0, 65536, (60, 5, 3)).astype(np.uint16)
    signal[0] = 0
    for peak in (150.0, 203.0, 420.0, 1000.0, 4000.0):
        made = ToneMap(transfer, "bt2020", peak)(signal)
        for pixel, found in zip(signal.reshape(-1, 3) / 65535, made.reshape(-1, 3), strict=True):
            light = hlg_nits(tuple(pixel)) if transfer == "HLG" else tuple(pq_nits(part) for part in pixel)
            assert np.abs(np.array(tone_mapped(light, peak)) - found).max() <= 1


def test_other_primaries_than_those_of_bt2020_are_converted() -> None:
    signal = [pq(WHITE_NITS * (level / 255) ** 2.4) for level in SKIN]
    picture = np.full((4, 4, 3), np.array(signal) * 65535).round().astype(np.uint16)
    assert np.abs(ToneMap("PQ", "bt709", WHITE_NITS)(picture)[0, 0] - np.array(SKIN, int)).max() <= 1
    # Display P3 to BT.709: the matrix of CSS Color 4, section 17.
    to_709 = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
    linear = to_709 @ (np.array(SKIN) / 255) ** 2.4
    wanted = (255 * linear ** (1 / 2.4)).round()
    assert np.abs(ToneMap("PQ", "smpte432", WHITE_NITS)(picture)[0, 0] - wanted).max() <= 1


def test_the_screen_of_a_grade_is_not_the_brightest_light_of_the_clip(tmp_path: Path) -> None:
    """Side data often describes the whole film, or another one."""
    path = write_hdr(tmp_path / "a.mkv", [of_sdr(WHITE), of_sdr(SKIN)], "PQ", params=GRADED)
    assert patches(path, 2)[0] == [255, 255, 255]


def test_probe_tells_the_colours_and_the_side_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_hdr(tmp_path / "a.mkv", [of_sdr(WHITE)], "PQ", params=GRADED)
    assert main(["media", "probe", str(path)]) == 0
    said = capsys.readouterr().out
    for words in (
        "matrix bt2020nc, primaries bt2020, transfer smpte2084, range tv",
        "graded on a screen of 0.005 to 1000 cd/m2",
        "at most 1000 cd/m2, in the average of a frame 400",
        "HDR (PQ) is tone-mapped to SDR",
    ):
        assert words in said
    assert main(["media", "probe", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["colour"]["transfer"] == "smpte2084"
    assert told["mastering_display"]["red"] == pytest.approx([0.708, 0.292])
    assert told["mastering_display"]["most"] == 1000
    assert told["content_light"] == {"most": 1000, "average": 400}


def test_convert_check_and_sheet_say_that_hdr_is_tone_mapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_hdr(tmp_path / "a.mkv", [of_sdr(WHITE), of_sdr(RED)])
    assert main(["media", "convert", str(path), "-o", str(tmp_path / "b.mkv")]) == 0
    assert "a.mkv: HDR (HLG) is tone-mapped to SDR, with white at 203 cd/m2" in caplog.text
    assert probe(tmp_path / "b.mkv").colour.hdr is None
    assert np.abs(np.array(patches(tmp_path / "b.mkv", 2)) - (WHITE, RED)).max() <= 3
    assert main(["media", "sheet", str(path), "-o", str(tmp_path / "s.png")]) == 0
    assert "a.mkv: HDR (HLG) is tone-mapped" in capsys.readouterr().err
    request = parse("video-to-video", {"prompt": "a", "video_url": str(path), "num_frames": 17})
    found, facts = media_findings(request)
    assert found == []
    (told,) = [each for each in check(request, media=facts).findings if "tone-mapped" in each.reason]
    assert (told.field, told.status) == ("video_url", "warning")
    assert not [each for each in check(request, "fal", media=facts).findings if "HDR" in each.reason]


@pytest.mark.parametrize(("matrix", "primaries", "reason"), [(14, 9, "ictcp"), (9, 11, "smpte431")])
def test_hdr_in_colours_that_are_not_read_is_refused(
    tmp_path: Path, matrix: int, primaries: int, reason: str
) -> None:
    path = write_hdr(tmp_path / "a.mkv", [of_sdr(WHITE)], matrix=matrix, primaries=primaries)
    with pytest.raises(MediaError, match=rf"a\.mkv.*{reason}.* work"):
        next(read_frames(path))


def with_dolby_vision(source: Path, profile: int, compatibility: int, tag: bytes = b"hvc1") -> Path:
    """Write the configuration of Dolby Vision into an MP4 whose index is at its end."""
    data = bytearray(source.read_bytes())
    entry = data.index(b"hvc1", data.index(b"stsd"))
    box = struct.pack(">I4s4B", 32, b"dvcC" if profile < 8 else b"dvvC", 1, 0, profile << 1, 0x0D)
    box += bytes([compatibility << 4]) + bytes(19)
    end = entry - 4 + int.from_bytes(data[entry - 4 : entry], "big")
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        at = data.index(name, data.index(b"moov")) - 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + len(box)).to_bytes(4, "big")
    data[entry - 4 : entry] = (end - entry + 4 + len(box)).to_bytes(4, "big")
    data[entry : entry + 4] = tag
    data[end:end] = box
    made = source.with_name(f"dolby-{profile}-{compatibility}.mp4")
    made.write_bytes(data)
    return made


def remuxed(source: Path, suffix: str) -> Path:
    path = source.with_suffix(suffix)
    with av.open(str(source)) as read, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_dolby_vision_with_a_base_layer_is_read_and_said(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_hdr(tmp_path / "a.mp4", [of_sdr(WHITE), of_sdr(SKIN)], "HLG")
    path = with_dolby_vision(source, 8, 4)
    path = path if suffix == ".mp4" else remuxed(path, suffix)
    assert probe(path).colour.dolby_vision == DolbyVision(8, 4)
    assert np.abs(np.array(patches(path, 2)) - (WHITE, SKIN)).max() <= 3
    assert main(["media", "convert", str(path), "-o", str(tmp_path / "b.mp4")]) == 0
    assert "Dolby Vision profile 8: its base layer is read" in caplog.text
    assert "tone-mapped" in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_dolby_vision_without_one_is_refused(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_hdr(tmp_path / "a.mp4", [of_sdr(WHITE)], "HLG", trc=2, primaries=2, matrix=2)
    path = with_dolby_vision(source, 5, 0, b"dvh1")
    path = path if suffix == ".mp4" else remuxed(path, suffix)
    assert main(["media", "convert", str(path), "-o", str(tmp_path / "b.mp4")]) == 1
    assert "Dolby Vision profile 5 has its picture in IPT" in capsys.readouterr().err
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(MediaError, match="profile 5"):
        next(read_frames(path))
    request = parse("video-to-video", {"prompt": "a", "video_url": str(path)})
    (finding,) = media_findings(request)[0]
    assert (finding.field, finding.status) == ("video_url", "impossible")
    assert main(["media", "probe", str(path)]) == 0
    assert "HDR10, HLG and SDR work" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_another_reader_sees_the_same_dolby_vision(tmp_path: Path, suffix: str) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe here")
    path = with_dolby_vision(write_hdr(tmp_path / "a.mp4", [of_sdr(WHITE)]), 8, 4)
    path = path if suffix == "mp4" else remuxed(path, ".mkv")
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", path], capture_output=True, check=True
    )
    (side,) = json.loads(told.stdout)["streams"][0]["side_data_list"]
    found = DolbyVision(side["dv_profile"], side["dv_bl_signal_compatibility_id"])
    assert found == probe(path).colour.dolby_vision


def test_sdr_is_not_touched() -> None:
    assert to_sdr(Colour("tv", "bt2020nc", "bt2020", "bt2020-10"), Path("a.mp4")) is None
    assert hdr_note(Colour("tv", "bt709", "bt709", "bt709")) == ""


@pytest.mark.parametrize("suffix", ["jpg", "mov"])
def test_side_data_that_pyav_does_not_know_is_no_obstacle(tmp_path: Path, suffix: str) -> None:
    """Such as the EXIF of a JPEG, alone or as a frame of Motion JPEG."""
    exif = Image.Exif()
    exif[0x010F] = "a phone"  # its maker
    Image.new("RGB", (64, 48), (200, 50, 50)).save(tmp_path / "a.jpg", exif=exif)
    file = tmp_path / f"a.{suffix}"
    if suffix == "mov":
        with av.open(str(file), "w") as output:
            stream = output.add_stream("mjpeg", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
            packet = av.Packet((tmp_path / "a.jpg").read_bytes())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 10)
            output.mux(packet)
    assert probe(file).frames == 1
    (frame,) = read_frames(file)
    assert np.abs(frame[20, 20].astype(int) - (200, 50, 50)).max() <= 3
