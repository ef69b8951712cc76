"""EXR pictures are linear light: they come out as their light looks, never dark and never black."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video import read_image as reading
from wan_duet.pipelines.video.hdr import note_on_colours
from wan_duet.pipelines.video.read_image import read_image

Channels = dict[str, float]  # {channel: the number of all its pixels}
HALF, FLOAT = 1, 2  # pixel types of openexr.com, "OpenEXR File Layout"
SIZE = (6, 10)


def write_exr(path: Path, channels: Channels, kind: int = FLOAT, more: bytes = b"") -> Path:
    """Write uncompressed scan lines. more: attributes."""
    height, width = SIZE
    names = sorted(channels)
    listed = b"".join(name.encode() + struct.pack("<xIB3xII", kind, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = b"\x76\x2f\x31\x01\x02\0\0\0" + b"".join(
        (
            attribute("channels", "chlist", listed),
            attribute("compression", "compression", b"\0"),
            attribute("dataWindow", "box2i", window),
            attribute("displayWindow", "box2i", window),
            attribute("lineOrder", "lineOrder", b"\0"),
            attribute("pixelAspectRatio", "float", struct.pack("<f", 1)),
            attribute("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
            attribute("screenWindowWidth", "float", struct.pack("<f", 1)),
            more,
            b"\0",
        )
    )
    numbers = np.float16 if kind == HALF else np.float32
    line = b"".join(np.full(width, channels[name], numbers).tobytes() for name in names)
    lines = [struct.pack("<2I", number, len(line)) + line for number in range(height)]
    first = len(head) + 8 * height
    places = struct.pack(f"<{height}Q", *(first + number * len(lines[0]) for number in range(height)))
    path.write_bytes(head + places + b"".join(lines))
    return path


def attribute(name: str, kind: str, value: bytes) -> bytes:
    return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value


def srgb(light: float) -> float:
    """IEC 61966-2-1, on its own."""
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


@pytest.mark.parametrize("kind", [HALF, FLOAT])
@pytest.mark.parametrize(
    ("channels", "light"),
    [
        ({"R": 0.5, "G": 0.18, "B": 0.002}, (0.5, 0.18, 0.002)),
        ({"R": 7.5, "G": 1.0, "B": -0.25}, (1, 1, 0)),
        ({"Y": 0.18}, (0.18, 0.18, 0.18)),
        ({"R": 0.1, "G": 0.0, "B": 0.0, "A": 0.5}, (0.6, 0.5, 0.5)),
        ({"R": 0.0, "G": 0.0, "B": 0.0, "A": 0.0}, (1, 1, 1)),
    ],
)
def test_light_is_shown_with_the_curve_of_srgb(
    tmp_path: Path, kind: int, channels: Channels, light: tuple[float, float, float]
) -> None:
    path = write_exr(tmp_path / "a.exr", channels, kind)
    for source in (path, path.read_bytes()):
        found = read_image(source)
        assert found.shape == (*SIZE, 3)
        assert np.abs(found.numpy() - [srgb(each) for each in light]).max() < 1e-3
    assert "linear light is shown with the curve of sRGB" in note_on_colours(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: float) -> None:
    path = write_exr(tmp_path / "a.exr", {"R": number, "G": 0.5, "B": 0.5})
    with pytest.raises(MediaError, match=r"a\.exr: holds NaN or Inf"):
        read_image(path)


def test_other_primaries_are_refused_and_those_of_bt709_are_read(tmp_path: Path) -> None:
    colours = {"R": 0.5, "G": 0.5, "B": 0.5}
    named = {
        "bt709": (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329),
        "aces": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),  # SMPTE ST 2065-1
    }
    files = {
        name: write_exr(
            tmp_path / f"{name}.exr",
            colours,
            more=attribute("chromaticities", "chromaticities", struct.pack("<8f", *corners)),
        )
        for name, corners in named.items()
    }
    assert read_image(files["bt709"]).numpy() == pytest.approx(srgb(0.5), abs=1e-3)
    with pytest.raises(
        MediaError, match=r"aces\.exr: its primaries are not those of BT\.709 \(red at 0\.735"
    ):
        read_image(files["aces"])


def test_large_ones_are_shrunk_and_larger_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_exr(tmp_path / "a.exr", {"R": 0.5, "G": 0.5, "B": 0.5})
    monkeypatch.setattr(reading, "_ENOUGH_PIXELS", 20)
    assert read_image(path).shape == (3, 5, 3)
    monkeypatch.setattr(reading, "MOST_PIXELS", 59)
    with pytest.raises(MediaError, match="more than 0 million pixels"):
        read_image(path)


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = write_exr(tmp_path / "a.exr", {"Z": 0.5})
    for content in (path.read_bytes(), path.read_bytes()[:80]):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=r"a\.exr: not a readable image"):
            read_image(path)


def test_as_a_video_it_is_refused_instead_of_dark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_exr(tmp_path / "a.exr", {"R": 0.5, "G": 0.5, "B": 0.5})
    assert main(["media", "convert", str(path), "-o", str(tmp_path / "b.mp4")]) != 0
    assert "linear light, as in EXR, is read of pictures alone" in capsys.readouterr().err
    assert not (tmp_path / "b.mp4").exists()
