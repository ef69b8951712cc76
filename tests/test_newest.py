"""Which Python the second job of .ci/run takes: one that starts, not one that only has a name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / ".ci" / "newest.py"

spec = importlib.util.spec_from_file_location("newest", FILE)
assert spec is not None
assert spec.loader is not None
newest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(newest)

pytestmark = pytest.mark.skipif(os.name == "nt", reason=".ci/run is a script of bash")


def program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def test_a_shim_of_pyenv_that_is_not_switched_on_leads_to_the_real_one(tmp_path: Path) -> None:
    program(tmp_path / "shims" / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    real = program(tmp_path / "pyenv" / "versions" / "3.13.0" / "bin" / "python3.13", "echo 3 13")
    env = {"PATH": str(tmp_path / "shims"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    assert newest.newest(env, (3, 11)) == ((3, 13), real)


def test_the_newest_that_works_is_taken(tmp_path: Path) -> None:
    program(tmp_path / "python3.14", "exit 1")  # as one without ensurepip
    program(tmp_path / "python3.13", "echo 3 12")  # a name that says another version than is there
    works = program(tmp_path / "python3.12", "echo 3 12")
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert newest.newest(env, (3, 11)) == ((3, 12), works)
    assert newest.newest(env, (3, 12)) is None


def test_the_copy_has_the_working_tree_and_keeps_only_its_environments(tmp_path: Path) -> None:
    root, tree = tmp_path / "root", tmp_path / "tree"
    for file in (
        root / "deep" / "new",
        root / "ignored",
        tree / ".venv" / "a",
        tree / ".light" / "b",
        tree / "deep" / "old",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name, encoding="utf-8")
    (root / ".gitignore").write_text("ignored", encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    newest.copy_tree(root, tree)
    there = {file.relative_to(tree).as_posix() for file in tree.rglob("*") if file.is_file()}
    assert there == {".gitignore", "deep/new", ".venv/a", ".light/b"}


def test_a_command_that_fails_is_said_and_is_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert newest.run([sys.executable, "-c", "raise SystemExit(5)"], tmp_path) == 1
    assert "== FAILED" in capfd.readouterr().out
    assert newest.run([str(tmp_path / "nothing")], tmp_path) == 1
    assert newest.run([sys.executable, "-c", ""], tmp_path) == 0


def test_every_place_that_is_tested_is_there() -> None:
    root = FILE.parents[1]
    assert [path for path in newest.LIGHT + newest.TORCH if not (root / path).exists()] == []
