"""HDR pictures are tone-mapped as videos are."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.hdr import note_on_colours
from wan_duet.pipelines.video.read_image import read_image

from .hdr_clips import RED, SKIN, WHITE, hdr_frame, signal_of
from .hdr_reference import of_sdr


def write_png(path: Path, pixels: np.ndarray, transfer: int) -> Path:
    """Write (H, W, 3 or 4), 16 bits, with a cICP chunk: primaries of BT.2020, RGB, full range."""
    height, width, channels = pixels.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    parts = (
        (b"IHDR", head),
        (b"cICP", bytes((9, transfer, 0, 1))),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def signal(colours: list[tuple[int, int, int]], transfer: str) -> np.ndarray:
    """Return a row of patches of 8x8 pixels."""
    values = np.array([signal_of(of_sdr(each), transfer) for each in colours])
    return np.repeat(np.repeat(values[None], 8, 0), 8, 1) * 65535


@pytest.mark.parametrize(("transfer", "code"), [("PQ", 16), ("HLG", 18)])
def test_a_png_with_an_hdr_signal_is_tone_mapped(tmp_path: Path, transfer: str, code: int) -> None:
    colours = [WHITE, RED, SKIN]
    path = write_png(tmp_path / "a.png", signal(colours, transfer).round().astype(np.uint16), code)
    for source in (path, path.read_bytes()):
        found = (read_image(source)[4, 4::8] * 255).numpy()
        assert np.abs(found - colours).max() <= 2
    assert f"HDR ({transfer}) is tone-mapped" in note_on_colours(path)


def test_transparency_of_an_hdr_png_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16, 4))
    pixels[..., :3] = signal([RED, RED], "PQ")
    pixels[:, 8:, 3] = 65535
    found = (read_image(write_png(tmp_path / "a.png", pixels.round().astype(np.uint16), 16)) * 255).numpy()
    assert found[4, 4].tolist() == [255, 255, 255]
    assert np.abs(found[4, 12] - RED).max() <= 2


def test_a_png_that_states_sdr_is_read_as_before(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), 257 * 140, np.uint16)
    assert (read_image(write_png(tmp_path / "a.png", pixels, 13))[4, 4] * 255).round().tolist() == [140] * 3
    assert note_on_colours(tmp_path / "a.png") == ""


@pytest.mark.skipif("avif" not in features.get_supported_modules(), reason="this Pillow reads no AVIF")
def test_an_hdr_avif_is_tone_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libsvtav1", rate=1, options={"crf": "8", "preset": "12"})
        frame = hdr_frame([of_sdr(WHITE), of_sdr(SKIN)], "PQ")
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = 16, 9, 9, 1
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    Image.open(path).verify()
    found = (read_image(path)[32, 32::64] * 255).numpy()
    assert np.abs(found - (WHITE, SKIN)).max() <= 3


def write_heic(path: Path, pixels: np.ndarray, transfer: int, matrix: int = 9) -> Path:
    """Write (H, W, 3 or 4), 16 bits, as a lossless HEIC with 10 bits."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="makes the HEIC file")
    mode = "RGB;16" if pixels.shape[2] == 3 else "RGBA;16"
    made = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    stated = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": matrix}
    made.save(path, quality=-1, chroma=444, full_range_flag=1, save_nclx_profile=True, **stated)
    return path


@pytest.mark.parametrize(("transfer", "code"), [("PQ", 16), ("HLG", 18)])
def test_a_heic_with_an_hdr_signal_is_tone_mapped(tmp_path: Path, transfer: str, code: int) -> None:
    colours = [WHITE, RED, SKIN]
    pixels = np.repeat(signal(colours, transfer), 8, 0).round().astype(np.uint16)
    path = write_heic(tmp_path / "a.heic", np.repeat(pixels, 8, 1), code)
    for source in (path, path.read_bytes()):
        found = (read_image(source)[32, 32::64] * 255).numpy()
        assert np.abs(found - colours).max() <= 3
    assert f"HDR ({transfer}) is tone-mapped" in note_on_colours(path)


def test_transparency_of_an_hdr_heic_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 4))
    pixels[..., :3] = np.repeat(np.repeat(signal([RED, RED], "PQ"), 8, 0), 8, 1)
    pixels[:, 64:, 3] = 65535
    found = (read_image(write_heic(tmp_path / "a.heic", pixels.round().astype(np.uint16), 16)) * 255).numpy()
    assert found[32, 32].tolist() == [255, 255, 255]
    assert np.abs(found[32, 96] - RED).max() <= 3


def test_a_heic_in_colours_that_are_not_read_is_refused(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", np.full((64, 64, 3), 30000, np.uint16), 16, matrix=10)
    with pytest.raises(MediaError, match=r"a\.heic: HDR with the matrix bt2020c; .* work"):
        read_image(path)


def test_a_heic_that_states_sdr_is_read_as_before(tmp_path: Path) -> None:
    path = write_heic(tmp_path / "a.heic", np.full((64, 64, 3), 257 * 140, np.uint16), 13)
    assert np.abs((read_image(path)[32, 32] * 255).numpy() - 140).max() <= 1
    assert note_on_colours(path) == ""
