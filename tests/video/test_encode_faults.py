"""What goes wrong outside: disks that are full, folders that are none, sounds that are broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.video.audio import read_audio
from wan_duet.pipelines.video.edit import Edit, edited, write_edited
from wan_duet.pipelines.video.frame_stream import Frame

from .clips import HEIGHT, WIDTH, moving, tone, write

resource = pytest.importorskip("resource", reason="limits of the system need a Unix")

CONTAINERS = ("mp4", "webm", "mkv", "webp")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may become larger than 8 KiB, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_full_disk_is_told_and_leaves_no_file(tmp_path: Path, suffix: str, count: int) -> None:
    with pytest.raises(MediaError, match=rf"cannot write .*a\.{suffix}: .*File too large"):
        write(tmp_path / f"a.{suffix}", count, quality="maximum")
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name.startswith("wan-duet-encoder")]


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_while_reversing_is_told(tmp_path: Path) -> None:
    edit = Edit(Fraction(16), reverse=True)
    with pytest.raises(MediaError, match="cannot keep the frames to reverse"):
        write_edited(moving(9), tmp_path / "a.mp4", edit, count=9, width=WIDTH, height=HEIGHT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_folder_that_is_none_is_told(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match=r"cannot write .*file/a"):
        write(tmp_path / "file" / f"a.{suffix}")


class Stopped(BaseException):
    """A host's interruption."""


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("after", [0, 3])
def test_a_stop_in_any_stage_leaves_nothing(tmp_path: Path, suffix: str, reverse: bool, after: int) -> None:
    def stopped() -> Iterator[Frame]:
        yield from moving(after)
        raise Stopped

    edit, audio = Edit(Fraction(16), reverse=reverse), None if suffix == "webp" else tone(1)
    with pytest.raises(Stopped):
        write_edited(
            stopped(), tmp_path / f"a.{suffix}", edit, count=9, width=WIDTH, height=HEIGHT, audio=audio
        )
    assert list(tmp_path.iterdir()) == []


def test_frames_to_be_drawn_by_nobody_are_refused_and_the_source_is_closed() -> None:
    source = moving(3)
    with pytest.raises(MediaError, match="no interpolator 'film'"):
        edited(source, Edit(Fraction(16), interpolator="film", num_interpolated_frames=1), None, Path())
    assert list(source) == []


def test_a_file_whose_sound_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write(path, 33, audio=tone(4), frames=iter([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 33))
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 256, len(data) - 6000, np.uint8).tobytes()
    path.write_bytes(data[:3000] + noise + data[-3000:])
    with pytest.raises(MediaError, match=r"the sound of .*a\.mkv"):
        read_audio(path)


def test_a_sound_in_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"missing\.wav"):
        read_audio(tmp_path / "missing.wav")
