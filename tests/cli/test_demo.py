"""Promises of the demo where there is no ComfyUI: the request of the shipped workflow, run in process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import demo
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.tags import RECEIPT


def start(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUI_")}
    command = [sys.executable, "-m", "wan_duet.pipelines.cli.demo", *arguments]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)


def test_a_prompt_becomes_a_video_whose_path_is_the_last_line(tmp_path: Path) -> None:
    done = start("--prompt", "a red circle, moving", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / demo.OUT
    assert done.stdout.splitlines()[-1] == str(out)
    assert done.stderr.count("No ComfyUI given") == 1
    facts = probe(out)
    receipt = json.loads(facts.tags[RECEIPT])
    model = receipt["model"]
    choices = f"{model['choices']['attention']} attention, {model['choices']['kernels']} kernels"
    assert f"Computed on {model['device']} in {model['dtype']}: {choices}" in done.stderr
    assert receipt["request"]["prompt"] == "a red circle, moving"
    assert (facts.frames, facts.width, facts.height) == tuple(
        receipt["plan"][name] for name in ("frames_out", "width", "height")
    )
    assert (
        json.loads((tmp_path / "wan-duet-demo.json").read_text(encoding="utf-8"))["seed"] == receipt["seed"]
    )


def test_a_file_that_is_no_video_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.mp4").write_text("years of work", encoding="utf-8")
    done = start("-o", "thesis.mp4", cwd=tmp_path)
    assert done.returncode == 2
    assert "--output" in done.stderr
    assert (tmp_path / "thesis.mp4").read_text(encoding="utf-8") == "years of work"
    assert done.stdout == ""


def test_the_output_is_an_mp4_and_says_so(tmp_path: Path) -> None:
    done = start("-o", "video.gif", cwd=tmp_path)
    assert done.returncode == 2
    assert ".mp4" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_named_comfyui_that_is_none_is_an_error_and_not_a_way_around(tmp_path: Path) -> None:
    done = start("--comfyui", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "is not a ComfyUI folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_refused_by_name(tmp_path: Path, prompt: str) -> None:
    done = start(f"--prompt={prompt}", cwd=tmp_path)
    assert done.returncode == 2
    assert "prompt" in done.stderr
