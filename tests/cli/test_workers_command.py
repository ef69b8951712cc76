"""What `wan-duet workers` refuses before it starts anything."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.cli.workers_command import require_reachable
from wan_duet.pipelines.fleet.cluster_access import make_token

JOINING = ("workers", "start", "--model", "toy", "--address", "10.0.0.1:6379", "--folder")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were installed: nothing here imports it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name == "ray" else found(name))
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: "2.60.0" if n == "ray" else version(n))


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main([*JOINING, str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "error: ray is not installed; pip install 'wan-duet[ray]' (ray 2.55 or newer)\n"
    )


@pytest.mark.usefixtures("ray")
def test_a_machine_without_the_token_does_not_join(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*JOINING, str(tmp_path)]) == 1
    assert "copy it from the first machine of the fleet" in capsys.readouterr().err


@pytest.mark.usefixtures("ray")
def test_a_machine_that_the_others_cannot_reach_does_not_join(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_token(tmp_path)
    assert main([*JOINING, str(tmp_path)]) == 2
    assert "--listen: the machines of the fleet must reach this one" in capsys.readouterr().err


def test_a_second_node_of_this_machine_joins_on_the_loopback() -> None:
    require_reachable(argparse.Namespace(address="127.0.0.2:6379", listen="127.0.0.3"))


def test_an_address_of_a_fleet_is_for_batches_on_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("a\n")
    given = ("batch", "run", str(rows), "--model", "toy", "-o", str(tmp_path / "out"), "--address", "h:1")
    assert main(given) == 2
    assert "--address: given with --on local; add ray" in capsys.readouterr().err
