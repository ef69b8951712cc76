from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.reverse import reversed_stream


def clip(count: int) -> list[Frame]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 6, 10, 3), np.uint8))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_last_frame_comes_first_and_nothing_changes(tmp_path: Path, count: int) -> None:
    frames = clip(count)
    played = list(reversed_stream(iter(frames), tmp_path))
    assert len(played) == count
    assert all(np.array_equal(a, b) for a, b in zip(played, reversed(frames), strict=True))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_when_nobody_reads_on(tmp_path: Path) -> None:
    stream = reversed_stream(iter(clip(5)), tmp_path)
    next(stream)
    stream.close()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_behind_when_the_source_is_interrupted(tmp_path: Path) -> None:
    def source() -> Iterator[Frame]:
        yield from clip(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(reversed_stream(source(), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no such folder"
    with pytest.raises(MediaError, match="no such folder"):
        next(reversed_stream(iter(clip(1)), missing))


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="frame 1 is 4x2"):
        next(reversed_stream(iter([clip(1)[0], np.zeros((2, 4, 3), np.uint8)]), tmp_path))
