"""`wan-duet generate --gpus`: the picture of one device, and what cannot be run on several."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.cli import main
from wan_duet.pipelines.cli.models_command import rates_file
from wan_duet.pipelines.cli.several_gpus import started_by_torchrun
from wan_duet.pipelines.plan.expectation import Rates, write_rates
from wan_duet.pipelines.video.read import read_frames

PICTURE = [
    *("generate", "--kind", "text-to-image", "--model", "toy", "--prompt", "a red ball", "--seed", "3"),
    *("--num-inference-steps", "2"),
]


def test_two_processes_make_the_picture_of_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert main([*PICTURE, "-o", str(one), "--device", "cpu"]) == 0
    capfd.readouterr()
    assert main([*PICTURE, "-o", str(two), "--gpus", "cpu,cpu"]) == 0
    out, shown = capfd.readouterr()
    assert out == f"{two}\n"
    assert shown.count("sampling: 2 steps") == 1
    pixels = [np.asarray(Image.open(file)).astype(int) for file in (one, two)]
    assert abs(pixels[0] - pixels[1]).max() <= 1
    receipt = json.loads(two.with_suffix(".json").read_text(encoding="utf-8"))
    wanted = {"guidance_pair": True, "sequence_parallel": 1, "exactness": "float"}
    assert receipt["gpus"] == {"devices": ["cpu", "cpu"], **wanted}
    assert (
        main(["generate", "--from-receipt", str(two.with_suffix(".json")), "-o", str(tmp_path / "b.png")])
        == 2
    )
    assert "from-receipt: the run used cpu, cpu together" in capfd.readouterr().err


def test_two_processes_decode_the_rows_of_a_video_together(tmp_path: Path) -> None:
    clip = [
        *("generate", "--kind", "text-to-video", "--model", "toy", "--prompt", "a red ball", "--seed", "3")
    ]
    clip += ["--num-inference-steps", "2", "--num-frames", "5", "--interpolator-model", "none"]
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    assert main([*clip, "-o", str(one), "--device", "cpu"]) == 0
    assert main([*clip, "-o", str(two), "--gpus", "cpu,cpu"]) == 0
    alone, together = (np.stack(list(read_frames(file))).astype(int) for file in (one, two))
    assert alone.shape == together.shape
    assert abs(alone - together).mean() <= 0.5  # of 255; H.264 may part equal frames
    receipt = json.loads(two.with_suffix(".json").read_text(encoding="utf-8"))
    assert receipt["decoded"] == "whole, by rows on 2 devices"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device", "cpu"], "--device: given together with several devices"),
        (["--compile"], "--compile: given together with several devices"),
        (["--as-requested"], "--as-requested: given together with several devices"),
        (["--guidance-scale", "1", "--gpus", "cpu,cpu,cpu,cpu"], "give as many devices as one of 1, 2"),
    ],
)
def test_what_several_devices_cannot_do_is_refused_before_one_starts(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PICTURE, "-o", str(tmp_path / "a.png"), "--gpus", "cpu,cpu", *flags]) == 2
    assert said in capsys.readouterr().err


def test_processes_of_torchrun_are_known_by_their_environment() -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert started_by_torchrun(dict.fromkeys(names, "2"))
    assert not started_by_torchrun({**dict.fromkeys(names, "2"), "WORLD_SIZE": "1"})
    assert not started_by_torchrun({"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(("gpus", "expected"), [(True, ("cuda:0", "cuda:1")), (False, ("cpu", "cpu"))])
def test_processes_of_torchrun_take_the_gpus_of_their_machine(
    gpus: bool, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from wan_duet.pipelines.parallel import gpu_world

    class JoinedError(Exception):
        """Ends the command where it joins the others."""

    def join(rank: int, devices: tuple[str, ...], store: object) -> None:
        raise JoinedError(rank, devices)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    monkeypatch.setattr(gpu_world, "join_world", join)
    for name, value in {"RANK": 1, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(JoinedError) as raised:
        main([*PICTURE, "-o", str(tmp_path / "a.png")])
    assert raised.value.args == (1, expected * 2)


@pytest.mark.parametrize("command", ["check", "plan"])
def test_what_several_devices_are_worth_is_told_once_they_were_measured(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    asked = [command, "--prompt", "a fox", "--gpus", "0,1,2,3"]
    assert main(asked) == 0
    layout = "on 4 devices (guidance pair x tokens split in 2), float (differs by rounding only): "
    assert f"{layout}how fast is unknown" in capsys.readouterr().out
    write_rates(rates_file(), Rates("GPU", "bfloat16", 2, 6e14, 6e14, 3e12, "triton", "today", link=3e11))
    assert main(asked) == 0
    assert f"{layout}about 3." in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["expected_on_gpus"]
    assert told["layout"] == {"guidance_pair": True, "sequence_parallel": 2}
    assert 3 < told["factor"] < 4


def test_too_many_devices_are_refused_by_the_check_too(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "check",
        "--prompt",
        "a fox",
        "--guidance-scale",
        "1",
        "--guidance-scale-2",
        "1",
        "--model",
        "toy",
    ]
    assert main([*asked, "--gpus", "cpu,cpu,cpu,cpu"]) == 2
    assert "4 devices would split 2 attention heads in 4" in capsys.readouterr().err
