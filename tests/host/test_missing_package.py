"""A ComfyUI in which nobody has run `pip install -r requirements.txt`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli.terminal import stopped_by_sigterm
from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI

WORKFLOWS = Path(__file__).parents[2] / "workflows" / "api"
# Python imports it at its start. platformdirs is then not found, as if it were not installed.
WITHOUT_PLATFORMDIRS = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec
hidden = "platformdirs"
PathFinder.find_spec = lambda name, *more: None if name.split(".")[0] == hidden else found(name, *more)
"""


@pytest.fixture(scope="module")
def bare(comfyui: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadlessComfyUI]:
    """A ComfyUI whose Python lacks platformdirs."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "sitecustomize.py").write_text(WITHOUT_PLATFORMDIRS, encoding="utf-8")

    def popen(*command: Any, env: dict[str, str], **more: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(*command, env={**env, "PYTHONPATH": str(folder)}, **more)

    with (
        stopped_by_sigterm(),
        HeadlessComfyUI(comfyui, popen=popen, start_timeout_s=900) as running,
    ):
        yield running


def test_the_log_says_once_which_command_adds_it(bare: HeadlessComfyUI) -> None:
    (line,) = (line for line in bare.log().splitlines() if "Wan Duet needs" in line)
    assert "Wan Duet needs platformdirs, which this Python does not have" in line
    assert f'"{bare.host.python}" -m pip install -r ' in line


def test_the_error_of_a_node_names_the_command_too(bare: HeadlessComfyUI) -> None:
    with pytest.raises(HostError, match=r"needs platformdirs.*-m pip install -r .*requirements\.txt"):
        bare.run(graph_of("Text to Video (one request)"))


def test_what_needs_none_of_it_runs(bare: HeadlessComfyUI) -> None:
    assert bare.run(graph_of("Text to Video (building blocks)"))


def graph_of(name: str) -> Any:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
