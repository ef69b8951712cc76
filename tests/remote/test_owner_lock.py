"""What ownership promises: it lasts as long as the process, and leaves nothing behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from wan_duet.pipelines.errors import JournalError
from wan_duet.pipelines.remote.owner_lock import OwnerLock


def test_an_owner_is_alive_until_it_retires(tmp_path: Path) -> None:
    one, other = OwnerLock(tmp_path), OwnerLock(tmp_path)
    assert one.is_alive(one.token)
    assert one.is_alive(other.token)
    other.retire()
    assert not one.is_alive(other.token)
    one.retire()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_living_owner_is_not(tmp_path: Path) -> None:
    living = OwnerLock(tmp_path)
    dead, young = tmp_path / "dead.lock", tmp_path / "young.lock"
    for file in (dead, young):
        file.touch()
    for file, age_s in ((dead, 2 * 3600), (tmp_path / f"{living.token}.lock", 2 * 3600), (young, 600)):
        os.utime(file, (time.time() - age_s,) * 2)
    other = OwnerLock(tmp_path)
    assert not dead.exists()
    assert young.exists(), "it may be about to be locked"
    assert other.is_alive(living.token)


def test_a_folder_that_cannot_hold_locks_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(JournalError, match="file"):
        OwnerLock(file)
