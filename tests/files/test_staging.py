"""Files take their places whole, and a video and its receipt as a pair, also when several runs race."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import MediaError
from wan_duet.pipelines.files.staging import require_free, staged_file, staged_pair
from wan_duet.pipelines.video.output import reserved_output


def test_two_writers_of_one_file_each_have_their_own_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "a.mp4"
    with staged_file(place) as late:
        with staged_file(place) as early:
            assert early != late
            early.write_text("early")
            late.write_text("late")
        assert place.read_text() == "early"
        assert not caplog.records
    assert place.read_text() == "late"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "another run wrote" in caplog.text
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_replacing_an_older_file_is_no_surprise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.mp4").write_text("older")
    with staged_file(tmp_path / "a.mp4") as part:
        part.write_text("newer")
    assert (tmp_path / "a.mp4").read_text() == "newer"
    assert not caplog.records


def test_after_an_error_the_older_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("older")

    def work() -> None:
        with staged_file(tmp_path / "a.mp4") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert (tmp_path / "a.mp4").read_text() == "older"
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of Unix")
def test_a_staged_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with staged_file(tmp_path / "a.mp4"):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "a.mp4")]
    assert modes[0] == modes[1]


def test_a_pair_without_a_companion_leaves_no_older_companion(tmp_path: Path) -> None:
    place, companion = tmp_path / "a.mp4", tmp_path / "a.json"
    place.write_text("older")
    companion.write_text("of the older")
    with staged_pair(place, companion) as staged:
        staged.write_text("newer")
    assert place.read_text() == "newer"
    assert not companion.exists()


def test_a_failed_pair_leaves_the_older_pair(tmp_path: Path) -> None:
    place, companion = tmp_path / "a.mp4", tmp_path / "a.json"
    place.write_text("older")
    companion.write_text("of the older")

    def work() -> None:
        with staged_pair(place, companion) as staged:
            staged.write_text("newer")
            raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        work()
    assert (place.read_text(), companion.read_text()) == ("older", "of the older")
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.mp4"]


def test_an_error_of_the_work_is_not_one_of_the_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), reserved_output(tmp_path / "a.mp4"):
        (tmp_path / "no such file").read_text()


def test_a_place_that_became_a_folder_is_told(tmp_path: Path) -> None:
    def work() -> None:
        with reserved_output(tmp_path / "a.mp4") as staged:
            staged.write_text("new")
            (tmp_path / "a.mp4" / "inside").mkdir(parents=True)

    with pytest.raises(MediaError, match=r"cannot write .*a\.mp4"):
        work()
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_free_place_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.part").write_text("of the user")
    require_free(tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == ["a.mp4.part"]
    for name in ("x" * 300, "no such folder/a"):
        with pytest.raises(OSError, match=r"too long|No such file"):
            require_free(tmp_path / name)


RACER = """
import sys
from pathlib import Path
from wan_duet.pipelines.video.output import reserved_output, write_sidecar
for turn in range(50):
    mine = f"{sys.argv[1]} {turn}"
    with reserved_output(Path(sys.argv[2])) as staged:
        staged.write_text(mine)
        write_sidecar(staged, {"wan_duet": mine})
"""


def test_racing_runs_leave_a_video_with_its_own_receipt(tmp_path: Path) -> None:
    """Two processes write fifty pairs each. This one looks on: no receipt lies beside another video."""
    place, receipt = tmp_path / "a.mp4", tmp_path / "a.json"
    racers = [subprocess.Popen([sys.executable, "-c", RACER, name, str(place)]) for name in "xy"]
    seen = 0
    while any(racer.poll() is None for racer in racers):
        try:
            before, said, after = place.read_text(), receipt.read_text(), place.read_text()
        except FileNotFoundError:
            continue
        if before == after:  # else a pair was replaced while we looked
            assert json.loads(said)["wan_duet"] == before
            seen += 1
    assert [racer.returncode for racer in racers] == [0, 0]
    assert seen > 0
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.mp4"]
    assert f'"{place.read_text()}"' in place.with_suffix(".json").read_text()


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    place, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with held(place) as living, held(place) as killed, held(other):
        folders = set(tmp_path.glob(".wan-duet-*.part"))
        killed.kill()
        killed.wait()
        with staged_pair(place, tmp_path / "a.json"):
            left = folders & set(tmp_path.glob(".wan-duet-*.part"))
        assert len(folders) == 3
        assert len(left) == 2
        living.kill()
        living.wait()
        with staged_pair(place, tmp_path / "a.json"):
            assert len(left & set(tmp_path.glob(".wan-duet-*.part"))) == 1
        assert len(set(tmp_path.glob(".wan-duet-*.part"))) == 1  # that of b.mp4


@contextmanager
def held(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that is writing `place`."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from wan_duet.pipelines.files.staging import staged_pair\n"
        "place = Path(sys.argv[1])\n"
        "with staged_pair(place, place.with_suffix('.json')) as part:\n"
        "    part.write_text('half'); print('held', flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, place], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()
