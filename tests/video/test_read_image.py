"""Pictures as people have them: huge, turned, in other colour spaces, in formats that need a package."""

from __future__ import annotations

import io
import tracemalloc
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, features

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.read_image import MOST_PIXELS, read_image

# The first bytes of a HEIC file of a phone, ISO/IEC 14496-12 4.3: size, "ftyp", brand.
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(noise(7, 4), "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), np.float32) / 255
    assert np.array_equal(read_image(data).numpy(), upright)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_huge_picture_is_shrunk_before_it_becomes_float(kind: str) -> None:
    small = noise(520, 520).resize((5200, 5200), Image.Resampling.NEAREST)  # 27 million pixels
    data = saved(small, kind)
    tracemalloc.start()
    pixels = read_image(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pixels.shape == (2600, 2600, 3)
    assert peak < 3.5 * pixels.numpy().nbytes  # NumPy's memory; as float alone the picture would be 4 times
    expected = np.asarray(noise(520, 520).resize((2600, 2600), Image.Resampling.NEAREST), np.float32) / 255
    assert np.abs(pixels.numpy() - expected).mean() < (1e-6 if kind == "PNG" else 0.05)


def test_shrinking_takes_the_mean_of_whole_cells() -> None:
    image = noise(4099, 4101)  # a little above the limit: shrunk by 2, one column and one row left out
    whole = np.asarray(image, np.float64)[:4100, :4098] / 255
    expected = whole.reshape(2050, 2, 2049, 2, 3).mean((1, 3))
    assert np.allclose(read_image(saved(image, "BMP")).numpy(), expected, atol=1e-6)


def test_a_long_thin_picture_keeps_its_one_row() -> None:
    assert read_image(saved(Image.new("L", (2**16 - 1, 300)), "PNG")).shape == (150, 2**15 - 1, 3)
    assert read_image(saved(Image.new("1", (2**24 + 5, 1)), "PNG")).shape == (1, 2**24 + 5, 3)


@pytest.mark.parametrize("side", [13_400, 20_000])  # above our limit, and above Pillow's
def test_one_message_for_a_picture_that_is_too_large(tmp_path: Path, side: int) -> None:
    file = tmp_path / "large.bmp"
    data = bytearray(saved(Image.new("RGB", (2, 2)), "BMP"))
    data[18:26] = side.to_bytes(4, "little") * 2  # the size that the header claims
    file.write_bytes(data)
    assert side**2 > MOST_PIXELS
    with pytest.raises(MediaError, match=r"large\.bmp: more than 178 million pixels; give a smaller picture"):
        read_image(file)


def floats(values: Any) -> bytes:
    return saved(Image.fromarray(np.array(values, np.float32)), "TIFF")


def test_a_float_tiff_keeps_its_range() -> None:
    assert read_image(floats([[0, 0.25, 1]]))[0, :, 0].tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("values", [[[0, 255]], [[-1, 1]], [[0, np.nan]]])
def test_a_float_tiff_of_another_range_is_refused(values: Any) -> None:
    with pytest.raises(MediaError, match="scale them to 0 to 1"):
        read_image(floats(values))


def wide_gamut() -> bytes:
    """An ICC profile with the curve of sRGB and the primaries of Display P3 (SMPTE EG 432-1)."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    data = bytearray(profile.tobytes())
    # Columns of RGB -> XYZ (D50) as in Apple's profile, s15Fixed16 (ICC.1:2022 4.6).
    columns = {
        b"rXYZ": (0.51512, 0.2412, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.1571, 0.06657, 0.78407),
    }
    count = int.from_bytes(data[128:132], "big")
    for entry in range(132, 132 + 12 * count, 12):
        place = int.from_bytes(data[entry + 4 : entry + 8], "big")
        for index, value in enumerate(columns.get(bytes(data[entry : entry + 4]), ())):
            at = place + 8 + 4 * index
            data[at : at + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
        if data[entry : entry + 4] == b"desc":  # else it would still be called sRGB
            size = int.from_bytes(data[entry + 8 : entry + 12], "big")
            data[place : place + size] = bytes(data[place : place + size]).replace(
                b"s\0R\0G\0B", b"w\0i\0d\0e"
            )
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_wide_gamut_picture_is_converted_to_srgb(kind: str) -> None:
    image = Image.new("RGB", (16, 16), (200, 120, 90))
    plain = read_image(saved(image, kind))[8, 8].numpy() * 255
    converted = read_image(saved(image, kind, icc_profile=wide_gamut()))[8, 8].numpy() * 255
    # Display P3 (200, 120, 90) is sRGB (213, 117, 84), by the matrices of CSS Color 4.
    assert np.abs(plain - (200, 120, 90)).max() <= 2
    assert np.abs(converted - (213, 117, 84)).max() <= 2


def test_the_profile_of_srgb_changes_no_bit() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise(64, 64)
    assert np.array_equal(
        read_image(saved(image, "PNG", icc_profile=profile)), read_image(saved(image, "PNG"))
    )


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is here, so no hint is given")
def test_a_heic_picture_names_the_package_that_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "IMG_0001.HEIC"
    file.write_bytes(HEIC_HEAD)
    with pytest.raises(MediaError, match=r"IMG_0001\.HEIC: a HEIC picture; `pip install pillow-heif`"):
        read_image(file)


def test_an_avif_that_pillow_cannot_read_says_which_one_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "get_supported_modules", lambda: ["pil"])
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40))
    with pytest.raises(MediaError, match=r"a\.avif: an AVIF .*11\.3 or newer.* convert it to PNG"):
        read_image(tmp_path / "a.avif")


@pytest.mark.skipif(find_spec("pillow_heif") is None, reason="needs pillow-heif, which makes a HEIC file")
def test_a_heic_picture_is_read_with_the_package() -> None:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), (200, 50, 50))).save(buffer, quality=95)
    pixels = read_image(buffer.getvalue())
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels[24, 32].numpy() * 255 - (200, 50, 50)).max() <= 3
