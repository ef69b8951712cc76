"""A node runs again when the file of its cached result is gone, and once only."""

from __future__ import annotations

from pathlib import Path

from wan_duet.nodes.finished_files import note_file, times_lost


def test_a_file_that_is_gone_is_counted_once(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    assert times_lost("lost once") == 0
    file.touch()
    note_file("lost once", file)
    assert times_lost("lost once") == 0
    file.unlink()
    assert times_lost("lost once") == 1
    assert times_lost("lost once") == 1  # nothing was made since
    file.touch()
    note_file("lost once", file)
    assert times_lost("lost once") == 1  # as when it was made, so the new result stays cached


def test_nodes_do_not_share_their_files(tmp_path: Path) -> None:
    note_file("one", tmp_path / "gone.mp4")
    assert times_lost("other") == 0
    assert times_lost(None) == 0
    assert times_lost("one") == 1


def test_a_result_without_images_serves_until_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.touch()
    note_file("blocked", file, has_images=False)
    assert times_lost("blocked") == 0
    assert times_lost("blocked", reads_images=True) == 1
    note_file("blocked", file, has_images=True)
    assert times_lost("blocked", reads_images=True) == 1
    note_file("blocked", file, has_images=False)
    note_file("other result", file)
    assert times_lost("other result", reads_images=True) == 0
