"""`wan-duet lora bench`: every combination is a run of its own, and they are compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.fleet.lora_cells import NO_LORA, LoraSetting, cells_of, settings_of
from wan_duet.pipelines.video.probe import probe

SMALL = {"num_frames": 5, "num_inference_steps": 2, "aspect_ratio": "1:1", "interpolator_model": "none"}


def test_there_is_a_cell_for_every_combination_and_one_setting_stays_together() -> None:
    settings = settings_of(["a.safetensors", "toy/b"], [0.5, 1.0], ["high", "low"])
    cells = cells_of(settings, "text-to-video", {}, ["x", "y"], [3, 4])
    assert len(cells) == (1 + 2 * 2 * 2) * 2 * 2
    order = [cell.setting for cell in cells]
    assert [setting for at, setting in enumerate(order) if at == 0 or order[at - 1] != setting] == settings
    assert cells[0].setting == NO_LORA
    assert cells[0].row.request.kind == "text-to-video"
    assert cells[-1].name == "p2-s4-b-low-1"
    assert cells[-1].row.request.document()["loras"] == [
        {"path": "toy/b", "scale": 1.0, "transformer": "low"}
    ]


@pytest.mark.parametrize("path", ["C:\\x\\strange näme!.safetensors", "..safetensors", "a" * 90])
def test_every_lora_has_a_name_that_is_a_file_name(path: str) -> None:
    (cell,) = cells_of([LoraSetting(path, "both", 1.0)], "text-to-video", {}, ["x"], [0])
    assert cell.name.isascii()
    assert len(cell.name) <= 80


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(RequestError, match="are called a-high-1"):
        settings_of(["x/a.safetensors", "y/A.safetensors"], [1.0], ["high"])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "request.json").write_text(json.dumps(SMALL))
    command = ["lora", "bench", "toy/outlined", "--prompt", "a red ball", "--experts", "low"]
    more = ["--request", str(folder / "request.json"), "--model", "toy", "--seed", "7", "--seeds", "2"]
    assert main([*command, *more, "-o", str(folder / "made")]) == 0
    return folder


def receipt(file: Path) -> Any:
    return json.loads(file.with_suffix(".json").read_text())


def test_a_cell_is_what_a_run_of_its_own_makes(bench: Path, tmp_path: Path) -> None:
    lora = '[{"path": "toy/outlined", "transformer": "low"}]'
    values = ["--prompt", "a red ball", "--seed", "8", "--loras", lora]
    command = ["generate", str(bench / "request.json"), "--kind", "text-to-video-lora", "--model", "toy"]
    assert main([*command, *values, "-o", str(tmp_path / "one.mp4")]) == 0
    cell = bench / "made" / "p1-s8-outlined-low-1.mp4"
    assert receipt(cell)["frames_sha256"] == receipt(tmp_path / "one.mp4")["frames_sha256"]


def test_the_table_the_sheet_and_the_grid_are_there(bench: Path) -> None:
    made = bench / "made"
    lines = (made / "table.csv").read_text().splitlines()
    seen = "shape_as_told,colour_as_told,motion_as_told,background_as_told,winding_degrees,bounces,ink"
    assert lines[0] == f"lora,expert,strength,ssim,motion,{seen}"
    assert lines[1].startswith("none,,0.0,1.0,")
    name, expert, strength, ssim, *_ = lines[2].split(",")
    assert (name, expert, strength) == ("toy/outlined", "low", "1.0")
    assert 0 < float(ssim) < 1
    assert set(json.loads((made / "cells.json").read_text())) == {
        f"p1-s{seed}-{name}" for seed in (7, 8) for name in ("none", "outlined-low-1")
    }
    assert (made / "sheet.png").stat().st_size
    assert probe(made / "grid.mp4").frames == 5


def test_again_makes_nothing_new(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in (bench / "made").glob("p1-*")}
    command = ["lora", "bench", "toy/outlined", "--prompt", "a red ball", "--experts", "low"]
    more = ["--request", str(bench / "request.json"), "--model", "toy", "--seed", "7", "--seeds", "2"]
    assert main([*command, *more, "-o", str(bench / "made"), "--json"]) == 0
    assert {file: file.stat().st_mtime_ns for file in (bench / "made").glob("p1-*")} == before
    assert len(json.loads(capsys.readouterr().out)["table"]) == 2


def test_a_lora_that_changed_is_not_mixed_with_the_videos_of_the_old_one(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, lora = tmp_path / "made", tmp_path / "outlined.safetensors"
    shutil.copytree(bench / "made", made)
    shutil.copy(embedded_loras()["toy/circling"], lora)  # of the same name
    command = ["lora", "bench", str(lora), "--prompt", "a red ball", "--experts", "low"]
    more = ["--request", str(bench / "request.json"), "--model", "toy", "--seed", "7", "--seeds", "2"]
    assert main([*command, *more, "-o", str(made)]) == 2
    said = "outlined.safetensors has changed since p1-s7-outlined-low-1 was made; give another folder"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--prompts", "missing.txt"], "--prompts: missing.txt"),
        (["--prompt", "x", "--seeds", "0"], "--seeds: got 0"),
        (["--prompt", "x", "--seeds", "251"], "seeds: 502 videos in all"),
        (["--prompt", "x", "--strengths", "much"], "strengths: 'much' is no list of numbers"),
        (["--prompt", "x", "--experts", "middle"], "experts: 'middle'"),
        (["--prompt", "x", "--kind", "text-to-image"], "kind: text-to-image makes no video"),
    ],
)
def test_wrong_wishes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert main(["lora", "bench", "toy/outlined", "--model", "toy", "-o", str(tmp_path / "x"), *more]) == 2
    assert words in capsys.readouterr().err


def test_what_the_bench_varies_is_not_in_the_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text('{"seed": 3}')
    command = ["lora", "bench", "toy/outlined", "--model", "toy", "-o", str(tmp_path / "x"), "--prompt", "x"]
    assert main([*command, "--request", str(tmp_path / "r.json")]) == 2
    assert "has seed" in capsys.readouterr().err
