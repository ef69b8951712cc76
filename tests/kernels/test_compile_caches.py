"""Compiled kernels are kept in a folder of ours, and only that one is removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.kernels.compile_caches import compile_caches, keep_compiled
from wan_duet.pipelines.networks.block import _compiled


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no program has compiled anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["caches", "list", "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_what_we_compile_outlives_the_temporary_folder(capsys: pytest.CaptureFixture[str]) -> None:
    _compiled.cache_clear()
    _compiled("eager")
    kept = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    (kept / "fxgraph").mkdir(parents=True)
    (kept / "fxgraph" / "kernel").write_bytes(b"x" * 1000)
    first, triton = listed(capsys)
    assert (first["folder"], first["bytes"], first["ours"]) == (str(kept), 1000, True)
    assert (triton["of"], triton["ours"]) == ("triton", False)
    assert main(["caches", "remove"]) == 0
    assert not kept.exists()
    assert main(["caches", "remove"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_folder_of_the_user_is_used_and_never_removed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = home / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(theirs))
    keep_compiled()
    assert compile_caches()[0].folder == theirs
    assert main(["caches", "remove"]) == 0
    assert theirs.is_dir()
    assert listed(capsys)[0]["ours"] is False
