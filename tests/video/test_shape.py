"""Pixels that are not square, not whole, not opaque or not even in number are shown as a player does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.video.frame_pixels import background_of, shown_size
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

from .clips import moving, write


def encode(
    path: Path, pictures: list[np.ndarray], pix_fmt: str, stored: str, codec: str, **settings: object
) -> Path:
    """Write `pictures`, arrays in `pix_fmt`, with PyAV alone."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = stored
        for name, value in settings.items():
            setattr(stream.codec_context if name == "sample_aspect_ratio" else stream, name, value)
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format=pix_fmt)
            output.mux(stream.encode(frame.reformat(format=stored)))
        output.mux(stream.encode(None))
    return path


def convert(source: Path, name: str, *flags: str) -> Path:
    out = source.with_name(name)
    assert main(["media", "convert", str(source), "-o", str(out), *flags]) == 0
    return out


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ((720, 576), Fraction(64, 45), (1024, 576)),
        ((720, 480), Fraction(8, 9), (720, 540)),
        ((720, 480), Fraction(32, 27), (854, 480)),
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),
        ((320, 240), Fraction(1), (320, 240)),
        ((101, 50), Fraction(2), (202, 50)),
    ],
)
def test_pixels_become_square(size: tuple[int, int], aspect: Fraction, shown: tuple[int, int]) -> None:
    assert shown_size(*size, aspect) == shown


def test_the_pixel_aspect_is_honoured_in_and_out(tmp_path: Path) -> None:
    picture = np.zeros((144, 180, 3), np.uint8)
    picture[:, 90:] = 255
    source = encode(
        tmp_path / "a.mp4", [picture] * 3, "rgb24", "yuv420p", "libx264", sample_aspect_ratio=Fraction(64, 45)
    )
    with av.open(str(source)) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
    made = convert(source, "out.mp4")
    with av.open(str(made)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (256, 144)
        assert stream.sample_aspect_ratio in (None, 0, 1)
    assert (probe(source).width, probe(source).height) == (256, 144)
    frame = next(read_frames(made))
    assert frame[:, :124].max() < 20
    assert frame[:, 132:].min() > 235


def test_interlaced_frames_are_deinterlaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A white bar moves from field to field: in a woven frame its edge is a comb."""
    frames = []
    for number in range(8):
        fields = np.full((2, 96, 128), 16, np.uint8)
        for parity in range(2):
            at = 16 + 8 * (2 * number + parity) % 96
            fields[parity, :, at : at + 16] = 235
        woven = fields[0].copy()
        woven[1::2] = fields[1, 1::2]
        frames.append(woven)
    source = encode(
        tmp_path / "a.mp4",
        frames,
        "gray",
        "yuv420p",
        "libx264",
        options={"flags": "+ilme+ildct", "x264-params": "tff=1", "crf": "4"},
    )
    assert comb(next(plain(source))) > 40
    assert probe(source).interlaced
    made = convert(source, "out.mkv")
    assert "interlaced frames are deinterlaced" in caplog.text
    assert probe(made).frames == probe(source).frames == 8
    assert max(comb(frame[..., 1]) for frame in read_frames(made)) < 12


def plain(path: Path):
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            yield frame.to_ndarray(format="gray")


def comb(picture: np.ndarray) -> float:
    """Return how much a line differs from both its neighbours, in the worst column."""
    lines = picture.astype(float)
    both = np.minimum(np.abs(lines[1:-1] - lines[:-2]), np.abs(lines[1:-1] - lines[2:]))
    return float(both.mean(0).max())


def transparent() -> np.ndarray:
    """Opaque blue on the left; on the right red that nobody should see."""
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[:, :32] = (0, 0, 255, 255)
    picture[:, 32:] = (255, 0, 0, 0)
    return picture


def prores(path: Path) -> Path:
    return encode(path, [transparent()] * 3, "rgba", "yuva444p10le", "prores_ks", options={"profile": "4444"})


def vp9(path: Path) -> Path:
    return encode(
        path, [transparent()] * 3, "rgba", "yuva420p", "libvpx-vp9", options={"crf": "10", "b": "0"}
    )


def animation(path: Path) -> Path:
    pictures = [Image.fromarray(transparent()), Image.fromarray(np.flipud(transparent() // 2))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40, lossless=True, exact=True)
    return path


@pytest.mark.parametrize(("name", "make"), [("a.mov", prores), ("a.webm", vp9), ("a.webp", animation)])
@pytest.mark.parametrize(
    ("flags", "behind"),
    [
        ((), (255, 255, 255)),
        (("--background", "#00ff00"), (0, 255, 0)),
        (("--background", "black"), (0, 0, 0)),
    ],
)
def test_alpha_is_laid_over_a_background(
    tmp_path: Path, name: str, make, flags: tuple[str, ...], behind: tuple[int, int, int]
) -> None:
    frame = next(read_frames(convert(make(tmp_path / name), "out.mkv", *flags)))
    assert np.abs(frame[24, 8].astype(int) - (0, 0, 255)).max() <= 4
    assert np.abs(frame[24, 56].astype(int) - behind).max() <= 4


def test_a_background_that_is_no_colour_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.mkv", 2)
    command = [
        "media",
        "convert",
        str(tmp_path / "a.mkv"),
        "-o",
        str(tmp_path / "b.mkv"),
        "--background",
        "wat",
    ]
    assert main(command) == 2
    assert "--background: wat" in capsys.readouterr().err
    assert background_of("#102030") == (16, 32, 48)


@pytest.mark.parametrize(
    ("flags", "size", "said"),
    [
        ((), (322, 182), "padded to 322x182"),
        (("--odd", "pad"), (322, 182), "padded to 322x182"),
        (("--odd", "crop"), (320, 180), "cropped to 320x180"),
    ],
)
def test_an_odd_size_is_made_even_and_said(
    tmp_path: Path, flags: tuple[str, ...], size: tuple[int, int], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = write(tmp_path / "a.mkv", 3, moving(3, 321, 181), width=321, height=181).path
    made = probe(convert(source, "b.mp4", *flags))
    assert (made.width, made.height) == size
    assert said in caplog.text
    lossless = probe(convert(source, "b.mkv", *flags))
    assert (lossless.width, lossless.height) == (321, 181)


def test_an_odd_size_is_refused_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "a.mkv", 3, moving(3, 321, 181), width=321, height=181).path
    assert main(["media", "convert", str(source), "-o", str(tmp_path / "b.mp4"), "--odd", "refuse"]) == 1
    assert "`--odd pad` or `crop`" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]
