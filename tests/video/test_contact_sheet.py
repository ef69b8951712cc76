"""A contact sheet shows the frames it says, in the order of the videos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.errors import MediaError, RequestError
from wan_duet.pipelines.video.contact_sheet import contact_sheet
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.read_image import read_image

from .clips import HEIGHT, WIDTH, write

COLUMN = WIDTH + 4  # with the gap
LABEL = 18


def greys(count: int) -> Iterator[Frame]:
    """Frame i is of one grey, 20 * i."""
    for number in range(count):
        yield np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)


def middle_of(sheet: np.ndarray, row: int, column: int) -> int:
    top = row * (LABEL + HEIGHT + 4) + LABEL
    return int(sheet[top + HEIGHT // 2, column * COLUMN + WIDTH // 2, 0])


def test_frames_are_evenly_spaced_with_the_first_and_the_last(tmp_path: Path) -> None:
    write(tmp_path / "long.mkv", 11, greys(11))
    write(tmp_path / "short.mkv", 2, greys(2))
    videos = [("one", tmp_path / "long.mkv"), ("two", tmp_path / "short.mkv")]
    sheet = contact_sheet(videos, 3, WIDTH)
    assert sheet.shape == (2 * (LABEL + HEIGHT + 4), 3 * COLUMN - 4, 3)
    for column, grey in enumerate((0, 100, 200)):
        assert middle_of(sheet, 0, column) == pytest.approx(grey, abs=3)
    assert middle_of(sheet, 1, 1) == pytest.approx(20, abs=3)
    assert middle_of(sheet, 1, 2) == 24  # a video of two frames leaves the third column empty
    one = contact_sheet(videos[:1], 1, WIDTH)
    assert middle_of(one, 0, 0) == pytest.approx(100, abs=3)


def test_labels_are_drawn_whatever_letters_they_have(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image_bytes(np.zeros((HEIGHT, WIDTH, 3), np.uint8), "png", {}))
    plain, drawn = (contact_sheet([(label, tmp_path / "a.png")], 2, WIDTH) for label in ("", "猫 run.mp4"))
    assert (plain[:LABEL] == 24).all()
    assert (drawn[:LABEL] > 200).any()


def test_only_the_chosen_frames_are_held_and_a_stop_is_heard(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", 9)
    looks = 0

    def stop() -> None:
        nonlocal looks
        looks += 1
        if looks == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contact_sheet([("a", tmp_path / "a.mkv")], 2, 32, stop)
    assert looks == 4


@pytest.mark.parametrize(("columns", "width", "field"), [(200, 240, "columns"), (1, 1000, "width")])
def test_a_sheet_too_large_to_open_is_refused(tmp_path: Path, columns: int, width: int, field: str) -> None:
    """Of tall videos, so that few pixels make a tall sheet: 8000 for each of them."""
    tall = np.zeros((128, 16, 3), np.uint8)
    write(tmp_path / "a.mkv", 3, iter([tall] * 3), width=16, height=128)
    videos = [("a", tmp_path / "a.mkv")] * 3
    with pytest.raises(RequestError, match=field):
        contact_sheet(videos, columns, width)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"a\.mp4"):
        contact_sheet([("a", tmp_path / "a.mp4")], 2, 32)


def test_the_command_writes_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.mkv", 5)
    out = tmp_path / "sheet.png"
    files = [str(tmp_path / "a.mkv")] * 2
    assert main(["media", "sheet", *files, "-o", str(out), "--columns", "4", "--width", "64"]) == 0
    assert tuple(read_image(out).shape) == (2 * (LABEL + 37 + 4), 4 * 68 - 4, 3)
    assert "sheet.png: 268x118" in capsys.readouterr().out
    assert main(["media", "sheet", *files, "-o", str(tmp_path / "sheet.jpg")]) == 2
    assert "give a .png file" in capsys.readouterr().err
