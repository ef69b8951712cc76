"""What a receipt needs beside its own numbers to be repeated: the settings of the CPU, and the inputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from smaller import smaller

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.errors import RequestError, SamplingError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.recorded_inputs import recorded_inputs
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.video.local_file import file_at
from wan_duet.pipelines.video.output import sidecar


@pytest.fixture(scope="module")
def toy_image() -> WanModel:
    return smaller(load_model("toy-image"))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(toy_image: WanModel, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run with one thread on an image in its folder."""
    folder = tmp_path_factory.mktemp("made")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "first.png")
    request = parse(
        "image-to-video",
        {
            "prompt": "a red ball moves left",
            "image_url": str(folder / "first.png"),
            "num_frames": 17,
            "num_inference_steps": 2,
            "seed": 7,
            "interpolator_model": "none",
        },
    )
    torch.set_num_threads(1)
    return run(request, toy_image, out=folder / "clip.mp4", memory=DeviceMemory("cpu"), progress=Silent())


def again(made: Result, model: WanModel, out: Path, **changes: Any) -> Result:
    file = sidecar(made.path)
    if changes:
        file = file.with_name("changed.json")
        file.write_text(json.dumps({**json.loads(sidecar(made.path).read_text()), **changes}))
    return repeat(read_receipt(file), model, out=out, memory=DeviceMemory("cpu"), progress=Silent())


def test_a_run_is_repeated_with_its_number_of_threads_and_its_inputs_lie_beside_its_receipt(
    made: Result, toy_image: WanModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)
    repeated = again(made, toy_image, tmp_path / "again.mp4")
    assert repeated.receipt["latents_sha256"] == made.receipt["latents_sha256"]
    assert repeated.receipt["cpu"] == made.receipt["cpu"]
    assert made.receipt["cpu"]["threads"] == 1
    assert torch.get_num_threads() == 2


def test_another_instruction_set_is_named_when_the_latents_differ(
    made: Result, toy_image: WanModel, tmp_path: Path
) -> None:
    here = torch.backends.cpu.get_cpu_capability()
    with pytest.raises(SamplingError, match=f"CPU capability NEON there, {here} here"):
        again(
            made,
            toy_image,
            tmp_path / "again.mp4",
            latents_sha256="0" * 64,
            cpu={"threads": 1, "capability": "NEON"},
        )


@pytest.mark.parametrize("threads", [0, -1, 10**6, "2", None, [2]])
def test_an_impossible_number_of_threads_is_a_damaged_receipt(made: Result, threads: Any) -> None:
    file = sidecar(made.path).with_name("damaged.json")
    receipt = json.loads(sidecar(made.path).read_text())
    file.write_text(json.dumps({**receipt, "cpu": {**receipt["cpu"], "threads": threads}}))
    with pytest.raises(RequestError, match=r"damaged.*cpu\.threads"):
        read_receipt(file)


def test_a_receipt_from_before_the_settings_were_recorded_is_repeated(
    made: Result, toy_image: WanModel, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    assert again(made, toy_image, tmp_path / "again.mp4", cpu={}).receipt["cpu"]["threads"] == 1


def test_an_input_is_found_by_name_and_content_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, content in ((first, b"other"), (second, b"right")):
        folder.mkdir()
        (folder / "in.png").write_bytes(content)
    right = file_at(second / "in.png", "image_url").sha256
    inputs = {"image_url": {"name": "in.png", "sha256": right, "size_bytes": 5}}
    assert recorded_inputs(inputs, (first, second)) == {"image_url": second / "in.png"}
    assert recorded_inputs(inputs, (first,)) == {}


@pytest.mark.parametrize("name", ["../b/in.png", "..\\b\\in.png", "/etc/in.png", "", ".."])
def test_a_receipt_names_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "in.png").write_bytes(b"right")
    right = file_at(tmp_path / "in.png", "image_url").sha256
    found = recorded_inputs({"image_url": {"name": name, "sha256": right}}, (tmp_path,))
    assert found == ({"image_url": tmp_path / "in.png"} if name.endswith("in.png") else {})
