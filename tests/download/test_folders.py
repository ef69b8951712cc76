"""Where the command line keeps its data: on each system where 0.1.0 kept it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from platformdirs import PlatformDirs
from platformdirs.api import PlatformDirsABC
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows, get_win_folder_from_env_vars

from wan_duet.pipelines.download.folders import data_folder, remote_folder

LINUX, MAC, WINDOWS = ".local/share", "Library/Application Support", "AppData/Local"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has set nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "COMFYUI_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("system", "variables", "exists", "folder"),
    [
        (Unix, {}, None, LINUX),
        (Unix, {"XDG_DATA_HOME": "HOME/moved"}, None, "moved"),
        (Unix, {"XDG_DATA_HOME": "relative"}, None, LINUX),
        (Unix, {"XDG_DATA_HOME": ""}, None, LINUX),
        (Unix, {"XDG_DATA_HOME": "HOME/moved"}, LINUX, "moved"),
        (MacOS, {}, None, MAC),
        (MacOS, {}, MAC, MAC),
        (MacOS, {"XDG_DATA_HOME": "HOME/moved"}, MAC, MAC),
        (MacOS, {"XDG_DATA_HOME": "relative"}, None, MAC),
        (Windows, {"LOCALAPPDATA": f"HOME/{WINDOWS}"}, None, WINDOWS),
        (Windows, {"LOCALAPPDATA": f"HOME/{WINDOWS}"}, WINDOWS, WINDOWS),
        (Windows, {"LOCALAPPDATA": "HOME/moved"}, "moved", "moved"),
        (Windows, {"LOCALAPPDATA": "HOME/moved", "APPDATA": "HOME/roaming"}, None, "moved"),
    ],
)
def test_each_system_has_the_place_it_always_had(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: type[PlatformDirsABC],
    variables: dict[str, str],
    exists: str | None,
    folder: str,
) -> None:
    """exists: where an earlier version has left its data."""
    # What Windows tells; nobody can ask it elsewhere, and there it would tell of the real user.
    monkeypatch.setattr("platformdirs.windows.get_win_folder", get_win_folder_from_env_vars)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("HOME", str(home)))
    if exists is not None:
        (home / exists / "wan-duet").mkdir(parents=True)
    assert data_folder(system) == home / folder / "wan-duet"
    assert not list(home.rglob("wan-duet")) or exists is not None  # asking makes no folder


def test_jobs_and_keys_lie_in_the_comfyui_that_is_named_else_beside_the_downloads(home: Path) -> None:
    comfyui = home / "ComfyUI"
    assert remote_folder({"COMFYUI_PATH": str(comfyui)}) == comfyui / "user" / "__wan_duet"
    assert remote_folder({}) == data_folder() / "remote"
    assert data_folder() == PlatformDirs("wan-duet", appauthor=False).user_data_path
    assert os.fspath(data_folder()).startswith(str(home)) or sys.platform == "win32"
