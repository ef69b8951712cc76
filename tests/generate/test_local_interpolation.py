"""Whole runs whose frames in between a network draws: the file is looked for before anything is loaded."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import frame_nets
import pytest
from safetensors.torch import save_file

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import ModelError, RequestError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.interpolation.interpolator_files import find_interpolators
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.probe import probe

REQUEST = {"prompt": "a red ball", "num_frames": 17, "num_inference_steps": 2, "seed": 7, "guidance_scale": 1}
RIFE = {**REQUEST, "guidance_scale_2": 1, "interpolator_model": "rife", "num_interpolated_frames": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frame_interpolation")
    layout = frame_nets.Rife((8, 8, 8, 8), hidden=4, seen=4)
    save_file(frame_nets.weights(layout.shapes()), folder / "rife.safetensors")
    return folder


def make(model: WanModel, out: Path, folders: list[Path], **changes: Any) -> Result:
    request = t2v_request(**{**RIFE, **changes})
    memory = DeviceMemory("cpu")
    return run(
        request, model, out=out, memory=memory, progress=Silent(), interpolators=find_interpolators(folders)
    )


def test_a_network_draws_the_frames_and_the_receipt_names_its_file(
    toy: WanModel, folder: Path, tmp_path: Path
) -> None:
    result = make(toy, tmp_path / "clip.mp4", [folder])
    facts = probe(result.path)
    assert (facts.frames, facts.fps) == (49, Fraction(48))
    used = result.receipt["interpolator"]
    assert (used["name"], used["file"]) == ("rife", "rife.safetensors")
    assert used["hash"].startswith("sha256:")

    recorded = read_receipt(sidecar(result.path))
    again = tmp_path / "again.mp4"
    repeat(
        recorded,
        toy,
        out=again,
        memory=DeviceMemory("cpu"),
        progress=Silent(),
        interpolators=find_interpolators([folder]),
    )
    assert probe(again).frames == 49
    with pytest.raises(ModelError, match="no file for it was found"):
        repeat(recorded, toy, out=again, memory=DeviceMemory("cpu"), progress=Silent())


class NothingLoads(Silent):
    def begin(self, stage: str, total: int, unit: str) -> None:
        raise AssertionError(f"{stage} began")


def test_without_its_file_nothing_is_loaded(toy: WanModel, tmp_path: Path) -> None:
    request, memory = t2v_request(**RIFE), DeviceMemory("cpu")
    with pytest.raises(RequestError, match=r"rife_v4\.26\.safetensors.*models/frame_interpolation"):
        run(request, toy, out=tmp_path / "a.mp4", memory=memory, progress=NothingLoads())
    assert not [*tmp_path.iterdir()]


def test_the_command_line_knows_the_folder(folder: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps(RIFE), encoding="utf-8")
    for command in ("check", "plan"):
        assert main([command, str(request)]) != 0
        assert main([command, str(request), "--interpolator-folder", str(folder)]) == 0
