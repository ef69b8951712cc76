"""The demo through a real ComfyUI, and what it leaves behind there: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.host import Host
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.tags import PROMPT, RECEIPT


def begin(comfyui: Host, cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo in `comfyui`, with its temporary folders under `cwd`/temporary."""
    temporary = cwd / "temporary"
    temporary.mkdir()
    environ = {**os.environ, "COMFYUI_PYTHON": str(comfyui.python)}
    environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    command = [
        sys.executable,
        "-m",
        "wan_duet.pipelines.cli.demo",
        "--comfyui",
        str(comfyui.path),
        *arguments,
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=_hear_ctrl_c if sys.platform != "win32" else None,
    )


def _hear_ctrl_c() -> None:
    """Tests that run in the background of a shell inherit that this signal is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def listing(comfyui: Host) -> set[Path]:
    """The files in the folders of the host that a user works in."""
    return {
        file
        for folder in ("output", "input", "temp", "user", "custom_nodes")
        for file in (comfyui.path / folder).rglob("*")
        if file.suffix != ".pyc"
    }


@pytest.fixture
def untouched(comfyui: Host) -> Iterator[None]:
    before = listing(comfyui)
    yield
    assert listing(comfyui) == before


@pytest.mark.usefixtures("untouched")
def test_a_prompt_becomes_a_video_in_a_real_comfyui(comfyui: Host, tmp_path: Path) -> None:
    process = begin(comfyui, tmp_path, "--prompt", "a green square", "-o", "made/it.mp4")
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    out = tmp_path / "made" / "it.mp4"
    assert stdout.splitlines()[-1] == str(out)
    tags = probe(out).tags
    assert json.loads(tags[RECEIPT])["request"]["prompt"] == "a green square"
    assert "a green square" in json.dumps(json.loads(tags[PROMPT]))  # dropped on ComfyUI, it opens the graph
    assert list((tmp_path / "temporary").glob("wan-duet-comfyui-*")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize(("how", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.usefixtures("untouched")
def test_a_demo_that_is_stopped_leaves_no_comfyui_behind(
    comfyui: Host, tmp_path: Path, how: signal.Signals, name: str
) -> None:
    process = begin(comfyui, tmp_path)
    assert process.stderr is not None
    assert "Starting the ComfyUI" in process.stderr.readline()
    folder = tmp_path / "temporary"
    while not list(folder.glob("wan-duet-comfyui-*/comfyui.log")):
        assert process.poll() is None
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Stopped." in stderr
    assert list(folder.glob("wan-duet-comfyui-*")) == []
    running = subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in running


def test_the_pack_is_there_under_a_name_of_its_own(host: HeadlessComfyUI, client: ComfyClient) -> None:
    (node,) = client.get("/object_info/WanDuetRunLocal").values()
    assert node["python_module"] == "custom_nodes.wan-duet"
    assert client.get("/queue") == {"queue_running": [], "queue_pending": []}
    assert "IMPORT FAILED" not in host.log()
