"""Where the command line keeps what it has downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_duet.pipelines.download.home import data_folder


@pytest.mark.parametrize(
    ("platform", "below"),
    [
        ("linux", ".local/share/wan-duet"),
        ("darwin", "Library/Application Support/wan-duet"),
        ("win32", "AppData/Local/wan-duet"),
    ],
)
def test_each_system_has_its_own_place(platform: str, below: str) -> None:
    assert data_folder({}, platform) == Path.home() / below


@pytest.mark.parametrize(("platform", "name"), [("linux", "XDG_DATA_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_user_may_have_moved_it(tmp_path: Path, platform: str, name: str) -> None:
    assert data_folder({name: str(tmp_path)}, platform) == tmp_path / "wan-duet"
    assert data_folder({name: "relative"}, platform) == data_folder({}, platform)
