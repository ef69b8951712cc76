"""A bought file gets a name of its own, whatever other jobs do to the folder at that moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.remote.save_result import _taken


def test_a_folder_that_the_check_of_another_job_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, make, made = tmp_path / "out" / "film.mp4", Path.mkdir, list[Path]()

    def unlucky(folder: Path, *arguments: Any, **named: Any) -> None:
        make(folder, *arguments, **named)
        made.append(folder)
        if len(made) < 3:
            folder.rmdir()

    monkeypatch.setattr(Path, "mkdir", unlucky)
    assert not _taken(place)
    assert place.is_file()
    assert len(made) == 3
    assert _taken(place)


def test_a_file_in_place_of_the_folder_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match="out"):
        _taken(tmp_path / "out" / "film.mp4")
