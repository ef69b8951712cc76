"""Each codec writes what its name says, whatever the machine, and what cannot be is refused before work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.codecs import CODECS, QUALITIES, WRITE_MODES, Codec, codec_of
from wan_duet.pipelines.video.containers import CONTAINERS
from wan_duet.pipelines.video.muxed_file import converted
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.video_format import FormatWish, format_of

from .clips import moving, soft, tone, write

PAIRS = [
    (container.name, codec)
    for container in CONTAINERS.values()
    for codec in container.codecs
    if container.sound  # the others have test files of their own
]
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (230, 180, 150))


def ffprobe(path: Path) -> list[dict[str, str]]:
    """Return the streams of a file, as ffmpeg's own program sees them."""
    tool = shutil.which("ffprobe")
    if tool is None:
        pytest.skip("needs ffprobe")
    command = [tool, "-v", "error", "-show_streams", "-of", "json", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]


def pictures(path: Path) -> list[np.ndarray]:
    """Decode with PyAV alone, as BT.709."""
    with av.open(str(path)) as file:
        return [
            frame.reformat(format="rgb24", src_colorspace=1, dst_colorspace=5).to_ndarray()
            for frame in file.decode(video=0)
        ]


def patches(count: int) -> list[np.ndarray]:
    """Return frames of four colours side by side that another matrix would change by 10 and more."""
    picture = np.repeat(np.array([COLOURS], np.uint8), 28, axis=1)
    return [np.repeat(picture, 64, axis=0)] * count


@pytest.mark.parametrize(("suffix", "codec"), PAIRS)
def test_every_codec_of_every_suffix_keeps_the_pictures(tmp_path: Path, suffix: str, codec: str) -> None:
    told = write(tmp_path / f"a.{suffix}", 5, iter(patches(5)), wish=FormatWish(codec))
    for frame in pictures(told.path):
        assert np.abs(frame[32, 14::28].astype(int) - COLOURS).max() <= 5
    found = probe(told.path)
    assert (found.codec, found.frames, found.fps) == (told.codec, 5, told.fps)


@pytest.mark.parametrize(
    ("suffix", "codec", "quality", "expected"),
    [
        ("mp4", "h265", "high", ("hevc", "Main", "hvc1")),
        ("mov", "h265", "high", ("hevc", "Main", "hvc1")),
        ("mp4", "av1", "high", ("av1", "Main", "av01")),
        ("mov", "prores", "low", ("prores", "Proxy", "apco")),
        ("mov", "prores", "high", ("prores", "Standard", "apcn")),
        ("mov", "prores", "maximum", ("prores", "HQ", "apch")),
        ("mov", "prores-4444", "high", ("prores", "4444", "ap4h")),
        ("mov", "prores-4444", "maximum", ("prores", "XQ", "ap4x")),
    ],
)
def test_ffprobe_finds_the_codec_its_profile_and_its_colours(
    tmp_path: Path, suffix: str, codec: str, quality: str, expected: tuple[str, ...]
) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 2, quality=quality, wish=FormatWish(codec))
    (found,) = ffprobe(path)
    assert (found["codec_name"], found["profile"], found["codec_tag_string"]) == expected
    assert (found["color_space"], found["color_primaries"], found["color_transfer"]) == ("bt709",) * 3


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"),
    [
        ("mp4", "h265", "aac"),
        ("mp4", "av1", "aac"),
        ("mov", "prores", "pcm_s24le"),
        ("mov", "h264", "aac"),
        ("webm", "av1", "opus"),
        ("mkv", "h265", "flac"),
    ],
)
def test_sound_is_what_goes_with_the_codec(tmp_path: Path, suffix: str, codec: str, sound: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, 8, audio=tone(1), wish=FormatWish(codec))
    assert [stream["codec_name"] for stream in ffprobe(path)][1:] == [sound]
    assert probe(path).audio is not None


@pytest.mark.parametrize("name", ["h265", "av1", "prores", "prores-4444"])
def test_equal_frames_make_equal_files_on_any_number_of_cores(tmp_path: Path, name: str) -> None:
    """Thirty encodes of each, in all write modes, were equal too, on one core and on two."""
    suffix = next(container.name for container in CONTAINERS.values() if name in container.codecs)
    hashes = set()
    for number in range(4):
        path = tmp_path / f"a.{suffix}"
        with cores(1 if number % 2 else None):
            write(path, 5, soft(5), wish=FormatWish(name))
        hashes.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(hashes) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_frames_of_a_short_clip_are_decoded_when_they_should_be(count: int) -> None:
    """x265 gave one or two frames decoding times far off, and one file in fifty could not be written."""
    context = av.CodecContext.create("libx265", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 112, 64, "yuv420p", Fraction(1, 16)
    context.options = CODECS["h265"].encoder_options("high", "fast", count)
    packets = []
    for index, frame in enumerate(moving(count)):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = index, context.time_base
        packets += context.encode(picture)
    packets += context.encode(None)
    times = [packet.dts for packet in packets]
    assert times == list(range(times[0], times[0] + count))
    assert -2 <= times[0] <= 0


class cores:  # noqa: N801
    """Let what starts inside use that many cores, where the system can."""

    def __init__(self, count: int | None) -> None:
        self.count = count if hasattr(os, "sched_setaffinity") else None

    def __enter__(self) -> None:
        if self.count is not None:
            self.all = os.sched_getaffinity(0)
            os.sched_setaffinity(0, set(sorted(self.all)[: self.count]))

    def __exit__(self, *_: object) -> None:
        if self.count is not None:
            os.sched_setaffinity(0, self.all)


def test_no_line_of_colour_is_lost_on_the_way_to_prores() -> None:
    """libswscale's threads lost one in some of these conversions."""
    form = format_of(Path("a.mov"))
    for frame in soft(9):
        seen = {
            b"".join(np.asarray(part).tobytes() for part in lines(converted(frame, form))) for _ in range(30)
        }
        assert len(seen) == 1


def lines(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return the planes of 16 bits without what pads their lines."""
    planes = [np.frombuffer(plane, np.uint16).reshape(plane.height, -1) for plane in frame.planes]
    return [rows[:, : plane.width] for rows, plane in zip(planes, frame.planes, strict=True)]


@pytest.mark.parametrize("codec", CODECS.values(), ids=str)
@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("mode", WRITE_MODES)
def test_every_quality_and_write_mode_has_options(codec: Codec, quality: str, mode: str) -> None:
    assert codec.always.items() <= codec.encoder_options(quality, mode).items()


@pytest.mark.parametrize("name", ["h265", "av1"])
def test_a_better_quality_is_a_larger_file(tmp_path: Path, name: str) -> None:
    sizes = []
    for quality in QUALITIES:
        write(tmp_path / "a.mp4", 3, soft(3), quality=quality, wish=FormatWish(name))
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("name", "wish", "said"),
    [
        ("a.mp4", FormatWish("prores"), r"codec prores: a \.mp4 .* h264, h265, av1; \.mov holds prores"),
        ("a.webm", FormatWish("h265"), r"codec h265: .* vp9, av1; \.mp4, \.mkv, \.mov holds h265"),
        ("a.mp4", FormatWish("x264"), r"codec 'x264' is unknown; one of h264, h265"),
        ("a.mp4", FormatWish(alpha=True), r"codec h264 holds no transparency; vp9, ffv1, prores-4444, webp"),
        ("a.mov", FormatWish(alpha=True), r"codec prores holds no transparency"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(name: str, wish: FormatWish, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        format_of(Path(name), wish)


def test_a_codec_without_an_encoder_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    with pytest.raises(MediaError, match="codec av1: this PyAV comes without libsvtav1"):
        codec_of("av1")


@pytest.mark.parametrize(("codec", "size"), [("h265", (14, 64)), ("av1", (24, 64))])
def test_a_picture_that_is_too_small_is_refused_before_any_frame(
    tmp_path: Path, codec: str, size: tuple[int, int]
) -> None:
    with pytest.raises(MediaError, match=r"from (16x16|32x32) on works"):
        write(tmp_path / "a.mp4", 1, width=size[0], height=size[1], wish=FormatWish(codec))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("codec", "least"), [("h265", 16), ("av1", 32)])
def test_the_smallest_picture_is_written(tmp_path: Path, codec: str, least: int) -> None:
    made = moving(2, least, least)
    write(tmp_path / "a.mp4", 2, made, width=least, height=least, wish=FormatWish(codec))
    assert len(pictures(tmp_path / "a.mp4")) == 2


def test_prores_takes_an_odd_height_and_evens_an_odd_width(tmp_path: Path) -> None:
    source = write(tmp_path / "a.mkv", 2, moving(2, 65, 63), width=65, height=63).path
    assert main(["media", "convert", str(source), "-o", str(tmp_path / "b.mov")]) == 0
    found = probe(tmp_path / "b.mov")
    assert (found.width, found.height) == (66, 63)


@pytest.mark.parametrize(("codec", "stored"), [("h265", "hevc"), ("av1", "av1")])
def test_the_command_takes_a_codec_and_keeps_its_logs(
    tmp_path: Path, codec: str, stored: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.mkv", 3).path
    command = ["media", "convert", str(source), "-o", str(tmp_path / "b.mp4"), "--codec", codec, "--json"]
    assert main(command) == 0
    told = capfd.readouterr()
    assert json.loads(told.out)["codec"] == stored
    assert "svt" not in told.err.lower()
    assert "x265" not in told.err.lower()


def test_the_command_refuses_a_codec_before_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["media", "convert", str(tmp_path / "none.mp4"), "-o", str(tmp_path / "b.webm")]
    assert main([*command, "--codec", "prores"]) == 1
    assert ".mov holds prores" in capsys.readouterr().err
