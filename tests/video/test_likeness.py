"""How alike videos are, against the formula written out for every window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.grid_video import write_grid
from wan_duet.pipelines.video.likeness import LikenessMeter, ssim
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

from .clips import write

LUMA = np.array([0.299, 0.587, 0.114])


def noise(seed: int, height: int = 12, width: int = 15) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def by_formula(frame: Frame, other: Frame) -> float:
    one, two = frame.astype(np.float64) @ LUMA, other.astype(np.float64) @ LUMA
    found = []
    for top in range(one.shape[0] - 6):
        for left in range(one.shape[1] - 6):
            x, y = (plane[top : top + 7, left : left + 7].ravel() for plane in (one, two))
            (vx, cov), (_, vy) = np.cov(x, y)
            c1, c2 = 2.55**2, 7.65**2
            mx, my = x.mean(), y.mean()
            found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
def test_ssim_is_that_of_the_paper(seed: int) -> None:
    one = noise(seed)
    two = np.clip(one.astype(int) + np.random.default_rng(9).integers(-40, 40, one.shape), 0, 255)
    other = two.astype(np.uint8)
    assert ssim(one, other) == pytest.approx(by_formula(one, other), abs=1e-4)
    assert ssim(one, one) == pytest.approx(1.0, abs=1e-9)


def test_a_video_is_like_itself_and_its_motion_is_the_mean_difference() -> None:
    meter = LikenessMeter()
    for level in (40, 50, 80):
        meter.add(np.full((32, 32, 3), level, np.uint8), np.full((32, 32, 3), level, np.uint8))
    found = meter.result()
    assert found.ssim == pytest.approx(1.0)
    assert found.motion == pytest.approx(20, abs=1e-3)


def test_a_grid_shows_each_video_in_its_place(tmp_path: Path) -> None:
    levels = [[10, 90], [170, 240]]
    rows = []
    for row in levels:
        rows.append([tmp_path / f"{level}.mp4" for level in row])
        for level, file in zip(row, rows[-1], strict=True):
            write(file, 3, iter([np.full((32, 32, 3), level, np.uint8)] * 3), width=32, height=32)
    shown_of: dict[str, list[int]] = {}
    facts = write_grid(
        rows,
        tmp_path / "grid.mp4",
        show=lambda file, frame: shown_of.setdefault(file.stem, []).append(int(frame[0, 0, 0])),
    )
    assert list(shown_of) == ["10", "90", "170", "240"]
    assert all(len(seen) == 3 and abs(seen[0] - int(name)) <= 4 for name, seen in shown_of.items())
    assert (facts.width, facts.height, facts.frames) == (68, 68, 3)
    frame = list(read_frames(tmp_path / "grid.mp4"))[2].astype(int)
    shown = [[int(frame[16 + 36 * down, 16 + 36 * right, 0]) for right in (0, 1)] for down in (0, 1)]
    assert np.abs(np.array(shown) - np.array(levels)).max() <= 4


def test_videos_of_a_large_grid_are_made_smaller(tmp_path: Path) -> None:
    file = tmp_path / "wide.mp4"
    write(file, 1, iter([np.full((16, 3000, 3), 200, np.uint8)]), width=3000, height=16)
    facts = write_grid([[file] * 4, [file] * 4], tmp_path / "grid.mp4")
    assert (facts.width, facts.height) == (4 * 2045 + 3 * 4, 2 * 10 + 4)
    frame = next(iter(read_frames(tmp_path / "grid.mp4"))).astype(int)
    assert (
        np.abs(frame[16:22, 4 * 2049 - 1000 : 4 * 2049 - 500] - 200).max() <= 4
    )  # the last of the second row


def test_a_grid_of_unlike_videos_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 3)
    write(tmp_path / "b.mp4", 3, iter([np.zeros((32, 32, 3), np.uint8)] * 3), width=32, height=32)
    assert probe(tmp_path / "a.mp4").width != 32
    with pytest.raises(MediaError, match=r"b\.mp4 has another size"):
        write_grid([[tmp_path / "a.mp4", tmp_path / "b.mp4"]], tmp_path / "grid.mp4")
