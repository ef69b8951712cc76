"""`wan-duet bench` measures; `wan-duet check` tells from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import main

REQUEST = ["--prompt", "a fox", "--model", "toy"]


def test_check_says_how_long_a_run_takes_once_the_machine_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["check", *REQUEST]) == 0
    assert "expected on" not in capsys.readouterr().out
    assert main(["bench", *REQUEST, "--device", "cpu", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["total_s"] > 0
    assert main(["check", *REQUEST, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["expected"] == measured
    assert main(["check", *REQUEST]) == 0
    assert f"{measured['forwards']} forwards" in capsys.readouterr().out
