"""`wan-duet bench` measures; `wan-duet check` tells from then on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import known_rates, main
from wan_duet.pipelines.kernels import rates
from wan_duet.pipelines.plan.expectation import Rates

REQUEST = ["--prompt", "a fox", "--model", "toy"]
MEASURED = Rates("card", "float32", 4, 1e12, 1e12, 1e12, "plain", "2026-11-30", watts=720.0)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is tested with the kernels."""
    monkeypatch.setattr(rates, "measure_rates", lambda *_: MEASURED)


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


def test_shots_are_checked_and_planned_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    film = ["--kind", "shots", "--storyboard", "17f: a | 17f continue: b"]
    assert main(["check", *film]) == 0
    assert "shots can run (local on wan2.2-t2v-a14b)" in capsys.readouterr().out
    assert main(["plan", *film]) == 0
    assert "shot 2: high: 10 steps" in capsys.readouterr().out
    assert main(["check", *film, "--preset", "official"]) == 2
    assert "shots has no preset official" in capsys.readouterr().err


def test_the_memory_of_each_shot_is_told_before(capsys: pytest.CaptureFixture[str]) -> None:
    film = ["--kind", "shots", "--model", "toy", "--storyboard", "17f: a | 17f continue: b"]
    assert main(["plan", *film]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if ": memory on " in line]
    assert [line[:8] for line in told] == ["shot 1: ", "shot 2: "]
    assert main(["plan", *film, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["memory"]
    weights = [stage["weights_bytes"] for each in (first, second) for stage in each["stages"]]
    assert all(weights)
    assert first["stages"][1]["weights_bytes"] < second["stages"][1]["weights_bytes"]  # toy-image reads more


def test_shots_take_as_long_as_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["bench", *REQUEST, "--num-frames", "17", "--device", "cpu", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    board = "17f: a fox | 17f: a fox | 17f continue: it jumps"
    assert main(["check", "--kind", "shots", "--storyboard", board, "--model", "toy", "--json"]) == 0
    all_of_them = json.loads(capsys.readouterr().out)["expected"]
    assert all_of_them["forwards"] == 3 * one["forwards"]
    assert all_of_them["total_s"] == pytest.approx(3 * one["total_s"], rel=1e-6)


def test_a_run_here_has_a_price_beside_that_of_a_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(known_rates, "read_rates", lambda _: MEASURED)
    assert main(["check", *REQUEST, "--on", "local,fal", "--usd-per-kwh", "0.5", "--json"]) == 0
    local, fal = json.loads(capsys.readouterr().out)["reports"]
    assert local["price"]["usd"] == pytest.approx(local["expected_s"] * 720 / 3.6e6 * 0.5)
    assert fal["price"]["usd"] > 0
    assert (
        main(["check", *REQUEST, "--usd-per-hour", "3.6", "--usd-per-kwh", "0.5", "--watts", "360", "--json"])
        == 0
    )
    both = json.loads(capsys.readouterr().out)
    assert both["price"]["usd"] == pytest.approx(both["expected_s"] * (0.001 + 360 / 3.6e6 * 0.5))
    assert main(["check", *REQUEST]) == 0
    assert "price: $0.00 (your own machine)" in capsys.readouterr().out


@pytest.mark.parametrize("amount", ["abc", "0", "-1", "inf", "nan"])
def test_a_price_is_a_number_above_zero(amount: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", *REQUEST, "--usd-per-hour", amount])
    assert f"'{amount}' is not an amount in US dollars" in capsys.readouterr().err
