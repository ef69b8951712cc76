"""The frames that are taken of a video that comes in."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.clip import clip_frames, clip_size, count_frames, frames_of_image
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.read import read_timed_frames

SIZE = {"width": 64, "height": 48}


def level(number: int) -> int:
    """The grey of frame `number`; far enough apart to survive any codec."""
    return 10 * number


def grey_clip(path: Path, frames: int, fps: Fraction = Fraction(16)) -> Path:
    pictures = (np.full((48, 64, 3), level(number), np.uint8) for number in range(frames))
    encode_video(pictures, path, fps=fps, frame_count=frames, quality="maximum", **SIZE)
    return path


def numbers(path: Path, *, fps: Fraction | None, count: int, padded: int | None = None) -> list[int]:
    """Which frames were taken."""
    frames = clip_frames(path, fps=fps, count=count, padded=padded or count, **SIZE)
    return [round(float((frame.mean() + 1) * 127.5 / level(1))) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "webp"])
def test_frames_come_one_after_the_other(tmp_path: Path, suffix: str) -> None:
    path = grey_clip(tmp_path / f"clip.{suffix}", 10)
    assert numbers(path, fps=None, count=10) == list(range(10))
    assert numbers(path, fps=None, count=4) == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])  # two of which count time in milliseconds
@pytest.mark.parametrize(
    ("rate", "wanted", "taken"),
    [
        (16, 16, [0, 1, 2, 3, 4, 5]),
        (30, 15, [0, 2, 4, 6, 8]),
        (24, 16, [0, 1, 3, 4, 6, 7, 9]),
        (8, 16, [0, 0, 1, 1, 2, 2]),
        (Fraction(24000, 1001), 12, [0, 2, 4, 6]),  # a frame that is a tenth of a millisecond late
    ],
)
def test_resampled_frames_are_those_on_the_screen(
    tmp_path: Path, suffix: str, rate: Fraction, wanted: int, taken: list[int]
) -> None:
    path = grey_clip(tmp_path / f"clip.{suffix}", 10, Fraction(rate))
    assert numbers(path, fps=Fraction(wanted), count=len(taken)) == taken


@pytest.mark.parametrize(
    ("fps", "frames"), [(None, 10), (Fraction(16), 10), (Fraction(8), 5), (Fraction(32), 20)]
)
def test_a_clip_lasts_as_long_as_it_is_shown(tmp_path: Path, fps: Fraction | None, frames: int) -> None:
    path = grey_clip(tmp_path / "clip.mp4", 10)
    assert count_frames(path, fps, 100) == frames
    assert count_frames(path, fps, 4) == 4


def test_the_last_frame_is_repeated_to_what_the_vae_can_code(tmp_path: Path) -> None:
    assert numbers(grey_clip(tmp_path / "clip.mp4", 3), fps=None, count=3, padded=5) == [0, 1, 2, 2, 2]


def test_more_frames_than_there_are_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="has 3 frames, but 5 are needed"):
        numbers(grey_clip(tmp_path / "clip.mp4", 3), fps=None, count=5)


def test_a_clip_is_read_from_bytes_as_from_a_file(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.webp"):
        path = grey_clip(tmp_path / name, 3)
        options = {"fps": None, "count": 3, "padded": 3, **SIZE}
        pairs = zip(clip_frames(path, **options), clip_frames(path.read_bytes(), **options), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        assert clip_size(path.read_bytes()) == (64, 48)


def test_frames_cover_the_size_and_are_cropped_in_the_centre_never_stretched(tmp_path: Path) -> None:
    picture = np.zeros((48, 128, 3), np.uint8)
    picture[:, 40:88] = 255  # a white square in the middle of a wide picture
    path = tmp_path / "wide.mkv"
    encode_video(iter([picture]), path, width=128, height=48, fps=Fraction(16), frame_count=1)
    (frame,) = clip_frames(path, fps=None, count=1, padded=1, width=32, height=32)
    assert frame.shape == (3, 32, 32)
    assert float(frame.min()) > 0.9


def test_a_still_is_fitted_the_same_way(tmp_path: Path) -> None:
    picture = np.zeros((48, 128, 3), np.uint8)
    picture[:, 40:88] = 255
    (frame,) = frames_of_image(image_bytes(picture, "png", {}), width=32, height=32)
    assert frame.shape == (3, 32, 32)
    assert float(frame.min()) > 0.9


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_text("no video")
    for look in (clip_size, lambda path: count_frames(path, None, 5)):
        with pytest.raises(MediaError, match=r"clip\.mp4"):
            look(file)
    with pytest.raises(MediaError, match="the video"):
        clip_size(b"no video")


def test_pictures_of_an_animation_are_shown_as_long_as_it_says(tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (16, 16), (level(number),) * 3) for number in range(3))
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=[100, 300, 200])
    shown = [(picture.seconds, picture.end) for picture in read_timed_frames(tmp_path / "a.webp")]
    assert shown == [
        (Fraction(0), Fraction(1, 10)),
        (Fraction(1, 10), Fraction(4, 10)),
        (Fraction(4, 10), Fraction(6, 10)),
    ]
