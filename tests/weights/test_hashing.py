from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.weights.hashing import file_hash

LONG_AGO_NS = 10**18  # 2001


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was opened."""
    counted, open_file = Counter[str](), Path.open

    def counting(file: Path, *arguments: Any, **options: Any) -> Any:
        counted[file.name] += 1
        return open_file(file, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    return counted


def settled(file: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a file, let a minute pass, and return what its hash should be."""
    file.write_bytes(content)
    now = file.stat().st_ctime + 60
    monkeypatch.setattr("time.time", lambda: now)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.safetensors"
    first = settled(file, b"first", monkeypatch)
    opened.clear()
    assert [file_hash(file), file_hash(file)] == [first] * 2
    assert opened[file.name] == 1
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert file_hash(file) == first
    second = settled(file, b"other", monkeypatch)  # of the same size
    os.utime(file, ns=(LONG_AGO_NS, LONG_AGO_NS))  # and of the same time
    assert file_hash(file) == second


def test_a_file_that_has_just_changed_is_read_every_time(tmp_path: Path, opened: Counter[str]) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"first")
    opened.clear()
    assert file_hash(file) == file_hash(file)
    assert opened[file.name] == 2
