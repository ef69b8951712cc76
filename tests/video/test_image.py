"""Pictures come in as people see them, are never stretched, and go out with their tags."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.image_tensor import fit
from wan_duet.pipelines.video.read_image import read_image

SIDES = st.integers(1, 90)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_phone_picture_is_turned_as_its_exif_says() -> None:
    image = Image.new("RGB", (8, 4), "black")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    turned = read_image(saved(image, "PNG", exif=exif))
    assert turned.shape == (8, 4, 3)
    assert turned[0, 3].tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([0, 0, 0, 255, 0, 0])
        image.putpixel((1, 0), 1)
        data = saved(image, "PNG", transparency=0)
        expected = [[1, 1, 1], [1, 0, 0]]
    else:
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 0)).convert(mode)
        image.putpixel((1, 0), (255, 0, 0, 255) if mode == "RGBA" else (0, 255))
        data = saved(image, "PNG")
        expected = [[1, 1, 1], [1, 0, 0] if mode == "RGBA" else [0, 0, 0]]
    assert read_image(data)[0].tolist() == expected


def test_sixteen_bit_grey_keeps_its_range() -> None:
    deep = Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert read_image(saved(deep, "PNG"))[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize("data", [b"", b"not a picture", saved(Image.new("RGB", (64, 64)), "PNG")[:60]])
def test_what_is_no_picture_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(data)
    with pytest.raises(MediaError, match=r"broken\.png: not a readable image"):
        read_image(file)


@given(SIDES, SIDES, SIDES, SIDES)
def test_any_size_fits_any_other(height: int, width: int, new_height: int, new_width: int) -> None:
    fitted = fit(torch.rand(2, height, width, 3), new_width, new_height)
    assert fitted.shape == (2, new_height, new_width, 3)
    assert 0 <= float(fitted.min()) <= float(fitted.max()) <= 1


def test_a_circle_stays_round() -> None:
    y, x = torch.meshgrid(torch.arange(90.0), torch.arange(160.0), indexing="ij")
    disc = (((y - 44.5) ** 2 + (x - 79.5) ** 2) < 30**2).float()
    fitted = fit(disc[None, ..., None].expand(1, -1, -1, 3), 64, 64)[0, :, :, 0] > 0.5
    wide, high = int(fitted.any(0).sum()), int(fitted.any(1).sum())
    assert abs(wide - high) <= 1
    assert abs(wide - 60 * 64 / 90) <= 1.5


def test_a_picture_that_fits_is_left_alone() -> None:
    frames = torch.rand(1, 48, 64, 3)
    assert fit(frames, 64, 48) is frames


def test_a_fine_pattern_is_averaged_and_not_sampled() -> None:
    stripes = (torch.arange(256) % 2).float()[None, None, :, None].expand(1, 256, -1, 3)
    assert torch.allclose(fit(stripes, 32, 32)[:, 2:-2, 2:-2], torch.tensor(0.5), atol=0.02)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_tags_come_back_whatever_letters_they_hold(kind: str) -> None:
    tags = {
        "prompt": json.dumps({"1": "红色 ball"}, ensure_ascii=False),
        "workflow": "{}",
        "wan_duet": '{"a": 1}',
    }
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(image_bytes(pixels, kind, tags))) as image:
        if kind == "png":
            assert np.array_equal(np.asarray(image), pixels)
            found = dict(image.text)
        else:
            found = dict(str(value).split(":", 1) for value in image.getexif().values() if ":" in str(value))
    assert {name: json.loads(value) for name, value in found.items()} == {
        name: json.loads(value) for name, value in tags.items()
    }


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(MediaError, match="image_format: got 'gif'"):
        image_bytes(np.zeros((2, 2, 3), np.uint8), "gif", {})
