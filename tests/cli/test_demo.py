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


def test_a_prompt_becomes_a_video_whose_path_is_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("COMFYUI_")]:
        monkeypatch.delenv(name)
    assert demo.main(["--prompt", "a red circle, moving"]) == 0
    shown = capsys.readouterr()
    out = tmp_path / demo.OUT
    assert shown.out.splitlines()[-1] == str(out)
    assert shown.err.count("No ComfyUI given") == 1
    facts = probe(out)
    receipt = json.loads(facts.tags[RECEIPT])
    model = receipt["model"]
    choices = f"{model['choices']['attention']} attention, {model['choices']['kernels']} kernels"
    assert f"Computed on {model['device']} in {model['dtype']}: {choices}" in shown.err
    assert receipt["request"]["prompt"] == "a red circle, moving"
    assert (facts.frames, facts.width, facts.height) == tuple(
        receipt["plan"][name] for name in ("frames_out", "width", "height")
    )
    assert (
        json.loads((tmp_path / "wan-duet-demo.json").read_text(encoding="utf-8"))["seed"] == receipt["seed"]
    )


def test_it_starts_as_a_module_too(tmp_path: Path) -> None:
    """So run.py starts it."""
    command = [sys.executable, "-m", "wan_duet.pipelines.cli.demo", "-o", str(tmp_path / "a.gif")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, ".mp4" in done.stderr) == (2, True)


def test_a_file_that_is_no_video_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thesis = tmp_path / "thesis.mp4"
    thesis.write_text("years of work", encoding="utf-8")
    assert demo.main(["-o", str(thesis)]) == 2
    shown = capsys.readouterr()
    assert "--output" in shown.err
    assert thesis.read_text(encoding="utf-8") == "years of work"
    assert shown.out == ""


def test_the_output_is_an_mp4_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["-o", str(tmp_path / "video.gif")]) == 2
    assert ".mp4" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_named_comfyui_that_is_none_is_an_error_and_not_a_way_around(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--comfyui", str(tmp_path), "-o", str(tmp_path / "a.mp4")]) == 1
    assert "is not a ComfyUI folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt: str
) -> None:
    assert demo.main([f"--prompt={prompt}", "-o", str(tmp_path / "a.mp4")]) == 2
    assert "prompt" in capsys.readouterr().err
