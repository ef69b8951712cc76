"""Numbered pictures hold exactly the frames, EXR in linear light. All of them appear, or none."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.exr_frame import linear
from wan_duet.pipelines.video.image_sequence import SequencePlace, sequence_place
from wan_duet.pipelines.video.video_format import FormatWish

from .clips import moving, write


@pytest.mark.parametrize(
    ("output", "codec", "names"),
    [
        ("a_%04d.png", "auto", ["a_0001.png", "a_0002.png", "a_0003.png"]),
        ("%d.png", "auto", ["1.png", "2.png", "3.png"]),
        ("frames", "png", [f"frames/frame_0000{number}.png" for number in (1, 2, 3)]),
    ],
)
def test_a_png_sequence_is_exact(tmp_path: Path, output: str, codec: str, names: list[str]) -> None:
    told = write(tmp_path / output, 3, moving(3, 65, 33), width=65, height=33, wish=FormatWish(codec))
    assert (told.codec, told.frames) == ("png", 3)
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == [
        tmp_path / name for name in names
    ]
    for name, frame in zip(names, moving(3, 65, 33), strict=True):
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(np.asarray(image), frame)


def test_an_existing_folder_gets_them_beside_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "frames.2026").mkdir()
    (tmp_path / "frames.2026" / "notes.txt").write_text("mine")
    write(tmp_path / "frames.2026", 2, wish=FormatWish("png"))
    names = sorted(file.name for file in (tmp_path / "frames.2026").iterdir())
    assert names == ["frame_00001.png", "frame_00002.png", "notes.txt"]


def test_the_first_picture_carries_the_tags(tmp_path: Path) -> None:
    told = write(tmp_path / "%d.png", 2, tags={"prompt": "ä"})
    assert told.tags == {"prompt": "ä"}
    texts = [Image.open(tmp_path / f"{number}.png").text for number in (1, 2)]
    assert texts == [{"prompt": "ä"}, {}]


def read_exr(file: Path) -> tuple[dict[str, np.ndarray], int]:
    """Return the channels of a scan-line EXR with ZIP compression, and the bytes per number.

    From the format's public description (openexr.com, "OpenEXR File Layout"), not from libav.
    """
    data = file.read_bytes()
    assert data[:8] == struct.pack("<II", 20000630, 2)
    at, header = 8, {}
    while data[at]:
        name, kind, _ = data[at:].split(b"\0", 2)
        at += len(name) + len(kind) + 2
        (size,) = struct.unpack_from("<I", data, at)
        header[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    left, top, right, bottom = struct.unpack("<4i", header[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    assert header[b"compression"] == b"\x03"  # ZIP of 16 lines
    entries = header[b"channels"]
    channels, kinds = [], set()
    while entries[0]:
        name, entries = entries.split(b"\0", 1)
        channels.append(name.decode())
        kinds.add(struct.unpack_from("<I", entries)[0])
        entries = entries[16:]
    (kind,) = kinds
    numbers = {1: np.float16, 2: np.float32}[kind]
    blocks = -(-height // 16)
    offsets = struct.unpack_from(f"<{blocks}Q", data, at + 1)
    found = {name: np.zeros((height, width), np.float32) for name in channels}
    for offset in offsets:
        line, size = struct.unpack_from("<iI", data, offset)
        lines = min(16, height - line)
        whole = lines * width * len(channels) * np.dtype(numbers).itemsize
        raw = data[offset + 8 : offset + 8 + size]
        if size < whole:
            raw = unpacked(zlib.decompress(raw))
        rows = np.frombuffer(raw, numbers).reshape(lines, len(channels), width)
        for place, name in enumerate(channels):
            found[name][line : line + lines] = rows[:, place]
    return found, np.dtype(numbers).itemsize


def unpacked(packed: bytes) -> bytes:
    """Undo the differences and the split into even and odd bytes."""
    steps = np.frombuffer(packed, np.uint8).astype(np.int64)
    steps[1:] -= 128
    both = (np.cumsum(steps) % 256).astype(np.uint8)
    half = (len(both) + 1) // 2
    out = np.empty_like(both)
    out[::2], out[1::2] = both[:half], both[half:]
    return out.tobytes()


def srgb_to_linear(level: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    part = level / 255.0
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(("quality", "size", "off"), [("high", 2, 1 / 2048), ("maximum", 4, 1e-6)])
def test_an_exr_sequence_is_linear_light(tmp_path: Path, quality: str, size: int, off: float) -> None:
    write(tmp_path / "a_%03d.exr", 2, moving(2, 37, 21), width=37, height=21, quality=quality)
    for number, frame in enumerate(moving(2, 37, 21), 1):
        channels, found = read_exr(tmp_path / f"a_00{number}.exr")
        assert found == size
        assert set(channels) == {"R", "G", "B"}
        for place, name in enumerate("RGB"):
            true = srgb_to_linear(frame[..., place])
            assert (
                np.abs(channels[name] / np.maximum(true, 1e-4) - true / np.maximum(true, 1e-4)).max()
                <= 2 * off
            )


def test_exr_has_alpha_and_colours_multiplied_by_it(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 33, 4), np.uint8)
    wish = FormatWish(alpha=True)
    write(tmp_path / "%d.exr", 1, iter([frame]), width=33, height=20, wish=wish, quality="maximum")
    channels, _ = read_exr(tmp_path / "1.exr")
    alpha = frame[..., 3] / 255
    assert np.abs(channels["A"] - alpha).max() < 1e-6
    assert np.abs(channels["G"] - srgb_to_linear(frame[..., 1]) * alpha).max() < 1e-6


def test_white_is_one_and_black_is_zero() -> None:
    assert linear(np.array([[[0, 255, 10]]], np.uint8)).tolist()[0][0][:2] == [0, 1]


@pytest.mark.parametrize("output", ["frames", "frame_%05d.png"])
def test_pictures_of_an_earlier_sequence_are_neither_replaced_nor_mixed(tmp_path: Path, output: str) -> None:
    wish = FormatWish("png")
    write(tmp_path / output, 5, wish=wish)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.png")}
    with pytest.raises(MediaError, match=r"already holds frame_00001\.png and others; give another folder"):
        write(tmp_path / output, 2, wish=wish)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.png")} == before


@pytest.mark.parametrize("made", [False, True])
def test_a_run_that_fails_leaves_no_picture(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "frames").mkdir()
    with pytest.raises(MediaError, match="only 2 of the 3 frames"):
        write(tmp_path / "frames", 3, moving(2), wish=FormatWish("exr"))
    assert [file.name for file in tmp_path.rglob("*")] == (["frames"] if made else [])


@pytest.mark.parametrize("name", ["a.png", "a_%d_%d.exr", "a_%05f.png"])
def test_the_name_of_one_picture_is_refused_with_one_of_many(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match=r"holds one frame; give a.*_%05d\.(png|exr), or a folder"):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_numbers_grow_beyond_their_width() -> None:
    place = sequence_place(Path("a_%03d.png"), "png")
    assert place == SequencePlace(Path(), "a_%03d.png")
    assert [place.name(number) for number in (1, 999, 1000)] == ["a_001.png", "a_999.png", "a_1000.png"]


def test_the_command_writes_a_sequence_and_says_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.mkv", 3).path
    command = ["media", "convert", str(source), "-o", str(tmp_path / "seq_%03d.exr")]
    assert main(command) == 0
    assert "3 frames, 16 fps" in capsys.readouterr().out
    assert len(list(tmp_path.glob("seq_*.exr"))) == 3
    assert main(command) == 1
    assert "already holds seq_001.exr" in capsys.readouterr().err
