"""Transparency is kept where that is asked and the format holds it. Read by Pillow, and by PyAV alone."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.video.read import read_timed_frames

from .test_shape import animation, convert, prores, transparent, vp9

BLUE = (0, 0, 255, 255)


def with_pillow(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGBA"))


def rgba(frame: av.VideoFrame) -> np.ndarray:
    # PyAV below 17 ignores the matrix of the source unless that of the result differs.
    bt709, other = Colorspace.ITU709, Colorspace.ITU601
    made = frame.reformat(format="rgba", src_colorspace=bt709, dst_colorspace=other)
    return made.to_ndarray()


def with_libav(file: Path, decoder: str | None = None) -> np.ndarray:
    with av.open(str(file)) as container:
        if decoder is None:
            return rgba(next(container.decode(video=0)))
        context = av.CodecContext.create(decoder, "r")
        for packet in container.demux(video=0):
            for frame in context.decode(packet):
                return rgba(frame)
    raise AssertionError("no frame")


def first_picture(folder: Path) -> np.ndarray:
    return with_pillow(folder / "frame_00001.png")


@pytest.mark.parametrize("make", [prores, vp9, animation])
@pytest.mark.parametrize(
    ("name", "codec", "read"),
    [
        ("out.mov", "prores-4444", with_libav),
        ("out.webm", "vp9", lambda file: with_libav(file, "libvpx-vp9")),
        ("out.mkv", "ffv1", with_libav),
        ("out.webp", "webp", with_pillow),
        ("out", "png", first_picture),
    ],
)
def test_transparency_is_kept(tmp_path: Path, make, name: str, codec: str, read) -> None:
    suffix = {prores: "mov", vp9: "webm", animation: "webp"}[make]
    made = convert(make(tmp_path / f"in.{suffix}"), name, "--alpha", "keep", "--codec", codec)
    pixels = read(made).astype(int)
    assert np.abs(pixels[24, 8] - BLUE).max() <= 6
    assert pixels[24, 56, 3] <= 2


def test_what_was_kept_is_laid_over_a_background_again(tmp_path: Path) -> None:
    made = convert(prores(tmp_path / "a.mov"), "out.webm", "--alpha", "keep")
    frame = next(read_timed_frames(made, background=(0, 255, 0))).frame()
    assert np.abs(frame[24, 56].astype(int) - (0, 255, 0)).max() <= 4
    kept = next(read_timed_frames(made, background=None)).frame()
    assert kept.shape == (*transparent().shape[:2], 4)


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("b.mp4", (), "codec h264 holds no transparency; vp9, ffv1, prores-4444, webp, png, exr do"),
        ("b.gif", (), "codec gif holds no transparency"),
        ("b.webm", ("--num-interpolated-frames", "1"), "--alpha: keep, with new frames"),
    ],
)
def test_transparency_that_cannot_be_kept_is_refused(
    tmp_path: Path, name: str, flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = animation(tmp_path / "a.webp")
    assert main(["media", "convert", str(source), "-o", str(tmp_path / name), "--alpha", "keep", *flags]) > 0
    assert said in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.webp"]
