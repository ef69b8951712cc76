"""A GIF has one palette of its clip and its exact time, and nobody is surprised by its size."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.video.probe import probe

from .clips import moving, soft, tone, write
from .test_codecs import COLOURS, patches


def frames_of(file: Path) -> list[tuple[np.ndarray, bytes, float]]:
    """Return pixels, palette and milliseconds of each frame, as Pillow reads them."""
    found = []
    with Image.open(file) as image:
        for index in range(image.n_frames):
            image.seek(index)
            pixels = np.asarray(image.convert("RGB"))
            found.append((pixels, bytes(image.global_palette.palette), image.info["duration"]))
    return found


@pytest.mark.parametrize(("fps", "count"), [("16", 9), ("24", 24), ("24000/1001", 12), ("50", 5), ("1/2", 2)])
def test_frames_stand_where_they_should_to_a_hundredth_of_a_second(
    tmp_path: Path, fps: str, count: int
) -> None:
    write(tmp_path / "a.gif", count, soft(count), fps=Fraction(fps))
    found = frames_of(tmp_path / "a.gif")
    assert len(found) == count
    begins = np.cumsum([0, *(shown for _, _, shown in found)])
    assert np.abs(begins / 1000 - np.arange(count + 1) / float(Fraction(fps))).max() <= 0.0101
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0  # for ever


def test_all_frames_share_one_palette_that_has_the_colours_of_all(tmp_path: Path) -> None:
    """The last frame has colours that no other has."""
    clip = [np.full((64, 112, 3), (40, 40, 40), np.uint8)] * 4 + patches(1)
    write(tmp_path / "a.gif", 5, iter(clip))
    found = frames_of(tmp_path / "a.gif")
    assert len({palette for _, palette, _ in found}) == 1
    assert np.abs(found[-1][0][32, 14::28].astype(int) - COLOURS).max() <= 4


@pytest.mark.parametrize(("quality", "most"), [("low", 32), ("medium", 64), ("high", 128), ("maximum", 256)])
def test_a_quality_is_a_number_of_colours(tmp_path: Path, quality: str, most: int) -> None:
    write(tmp_path / "a.gif", 2, soft(2), quality=quality, write_mode="fast")
    for pixels, _, _ in frames_of(tmp_path / "a.gif"):
        assert most // 4 < len(np.unique(pixels.reshape(-1, 3), axis=0)) <= most


def test_its_size_is_told_before_and_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def said_first():
        for frame in soft(3):
            assert "takes up to about" in caplog.text
            assert "it takes" not in caplog.text
            yield frame

    with caplog.at_level(logging.WARNING):
        write(tmp_path / "a.gif", 3, said_first())
    most = re.search(r"a\.gif: a GIF .* up to about ([\d.]+) MiB, .*; an MP4", caplog.text)[1]
    after = float(re.search(r"it takes ([\d.]+) MiB", caplog.text)[1])
    assert after == round((tmp_path / "a.gif").stat().st_size / 2**20, 2)
    assert 0 < after <= float(most)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fps": Fraction(60)}, r"at most 50 frames per second, not 60; .*--fps 25"),
        ({"audio": tone(1)}, r"\.gif file has no sound track"),
    ],
)
def test_what_a_gif_cannot_do_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(MediaError, match=said):
        write(tmp_path / "a.gif", **changes)
    assert list(tmp_path.iterdir()) == []


def test_tags_that_it_cannot_hold_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = write(tmp_path / "a.gif", tags={"prompt": "a kite"})
    assert "a .gif file holds no tags: prompt" in caplog.text
    assert told.tags == probe(told.path).tags == {}


class StopsLate(Silent):
    """Stops the run after all frames have been taken, while they are mapped to the palette."""

    def __init__(self, frames: int) -> None:
        self.left = frames + 2

    def check(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_stop_while_colours_are_mapped_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.gif", 5, moving(5), progress=StopsLate(5))
    assert list(tmp_path.iterdir()) == []


def test_equal_frames_make_equal_gifs(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        write(tmp_path / name, 4, soft(4))
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
