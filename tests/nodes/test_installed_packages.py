"""What is not installed is told by name, with the command that adds it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import wan_duet
from wan_duet.nodes.installed_packages import (
    explaining_missing_packages,
    missing_packages,
    what_is_missing,
)
from wan_duet.pipelines.errors import PackageError

ROOT = Path(wan_duet.__file__).resolve().parent


def test_every_package_of_the_requirements_is_looked_for_and_none_imported() -> None:
    asked: list[str] = []
    missing_packages(asked.append)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert asked == [line.split(">")[0] for line in lines if not line.startswith("#")]
    assert "transformers" in asked


def test_the_text_names_package_interpreter_and_file() -> None:
    text = what_is_missing(["diffusers"])
    assert "needs diffusers" in text
    assert f'"{sys.executable}" -m pip install -r "{ROOT / "requirements.txt"}"' in text


def node(asynchronous: bool, *missing: str) -> type:
    class Node:
        @classmethod
        def execute(cls, module: str) -> str:
            return __import__(module).__name__

    class AsyncNode:
        @classmethod
        async def execute(cls, module: str) -> str:
            return __import__(module).__name__

    return explaining_missing_packages(AsyncNode if asynchronous else Node, lambda: list(missing))


def run(kind: type, module: str) -> str:
    answer = kind.execute(module=module)  # type: ignore[attr-defined]
    return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_node_works_as_before_and_an_import_of_its_own_is_no_missing_package(asynchronous: bool) -> None:
    assert run(node(asynchronous), "json") == "json"
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        run(node(asynchronous), "nowhere_at_all")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_node_whose_package_is_missing_says_what_to_do(asynchronous: bool) -> None:
    with pytest.raises(PackageError, match="Wan Duet needs nowhere-at-all"):
        run(node(asynchronous, "nowhere-at-all"), "nowhere_at_all")


def test_looking_for_them_costs_no_import() -> None:
    code = (
        "import sys; from wan_duet.nodes.installed_packages import missing_packages; missing_packages();"
        "print(*sorted({'torch', 'diffusers', 'transformers', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
