"""The one command after a change of the embedded weights names what there is."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tools import renew_embedded

ROOT = Path(__file__).parents[2]


def test_every_step_runs_what_is_there() -> None:
    for step in renew_embedded.STEPS:
        program, *rest = step.arguments
        there = find_spec(rest[0]) if program == "-m" else (ROOT / program).is_file()
        assert there, step.name
        assert all((ROOT / part).exists() for part in rest if part.startswith(("tests/", "docs/", "bench/")))


def test_a_step_that_fails_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [
        renew_embedded.Step(name, ("-c", f"raise SystemExit({code})"))
        for name, code in zip("abc", (1, 0, 2), strict=True)
    ]
    monkeypatch.setattr(renew_embedded, "STEPS", steps)
    for arguments, code, ran in (([], 1, "a"), (["--after", "a"], 1, "bc"), (["--after", "c"], 0, "")):
        monkeypatch.setattr("sys.argv", ["renew", *arguments])
        assert renew_embedded.main() == code
        said = capsys.readouterr().out
        assert [line.split()[1][0] for line in said.splitlines() if ": python" in line] == list(ran)
