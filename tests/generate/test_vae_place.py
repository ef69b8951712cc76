"""The VAE of a run may have a device, a dtype and kernels of its own, and the receipt says which."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.device.precision import Part
from wan_duet.pipelines.errors import ModelError, RequestError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.repeated_run import repeat
from wan_duet.pipelines.generate.result import Result
from wan_duet.pipelines.kernels import kernel_trials
from wan_duet.pipelines.kernels.choices import KernelChoice, Preferences
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.vae.latent_space import load_model_vae
from wan_duet.pipelines.video.output import sidecar

REQUEST = t2v_request(
    prompt="a red ball",
    num_frames=17,
    num_inference_steps=2,
    seed=7,
    aspect_ratio="1:1",
    interpolator_model="none",
)


class Elsewhere(DeviceMemory):
    """A host that runs VAEs on a device of their own, in bfloat16."""

    def auto_dtype(self, part: Part) -> torch.dtype:
        return torch.bfloat16

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        assert what == "VAE"
        super().reserve(size_bytes, what, working_bytes)


class Host(DeviceMemory):
    """The processor by two names: `cpu`, and `cpu:0` for VAEs."""

    def for_part(self, part: Part) -> DeviceMemory:
        return Elsewhere("cpu:0") if part == "vae" else self

    def reserve(self, size_bytes: int, what: str, working_bytes: int = 0) -> None:
        assert what != "VAE"
        super().reserve(size_bytes, what, working_bytes)


@pytest.fixture(scope="module")
def toy() -> WanModel:
    return load_model("toy")


@pytest.fixture(scope="module")
def made(toy: WanModel, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run for which the faster kernels did not work for the VAE."""
    out = tmp_path_factory.mktemp("vae") / "a.mp4"
    model = replace(toy, preferences=Preferences(vae=KernelChoice("plain", {"triton": "no compiler"})))
    return run(REQUEST, model, out=out, memory=Host("cpu"), progress=Silent())


def test_the_vae_runs_where_the_host_runs_vaes_and_the_receipt_says_so(made: Result) -> None:
    assert made.receipt["model"]["device"] == "cpu"
    assert made.receipt["model"]["vae"] == {
        "dtype": "bfloat16",
        "device": "cpu:0",
        "kernels": "plain",
        "kernels_refused": {"triton": "no compiler"},
    }
    assert made.receipt["model"]["kernels_refused"] == {}
    assert [stage["name"] for stage in made.receipt["memory"]["vae"]["stages"]] == ["VAE"]


def test_the_log_says_why_faster_kernels_are_not_used_for_the_vae(
    toy: WanModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = replace(toy, preferences=Preferences(vae=KernelChoice("plain", {"triton": "no compiler"})))
    caplog.set_level(logging.INFO)
    load_model_vae(model, torch.float32, DeviceMemory("cpu"), lambda: None)
    assert "VAE: plain kernels (not triton: no compiler)" in caplog.messages


def test_a_repeated_run_has_the_kernels_of_the_receipt(made: Result, toy: WanModel, tmp_path: Path) -> None:
    recorded = read_receipt(sidecar(made.path))
    assert recorded.preferences.vae == KernelChoice("plain")
    again = repeat(recorded, toy, out=tmp_path / "a.mp4", memory=Host("cpu"), progress=Silent())
    assert again.receipt["latents_sha256"] == made.receipt["latents_sha256"]


@pytest.mark.parametrize("place", ["choices", "vae"])
def test_a_receipt_with_kernels_that_do_not_exist_is_refused(
    made: Result, tmp_path: Path, place: str
) -> None:
    receipt = json.loads(sidecar(made.path).read_text(encoding="utf-8"))
    receipt["model"][place]["kernels"] = "cutlass"
    file = tmp_path / "a.json"
    file.write_text(json.dumps(receipt), encoding="utf-8")
    with pytest.raises(RequestError, match=r"a\.json is damaged.*'cutlass' is unknown"):
        read_receipt(file)


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A comfy-kitchen that computes in float32 alone."""

    def apply_rope1(heads: Tensor, table: Tensor) -> Tensor:
        if heads.dtype != torch.float32:
            raise RuntimeError("float32 only")
        return (table * heads.unflatten(-1, (-1, 1, 2))).sum(-1).flatten(-2)

    package = ModuleType("comfy_kitchen")
    package.apply_rope1 = apply_rope1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comfy_kitchen", package)
    kernel_trials._made.cache_clear()
    yield
    kernel_trials._made.cache_clear()


@pytest.mark.usefixtures("kitchen")
def test_kernels_that_were_chosen_and_do_not_run_for_the_vae_are_refused_before_anything_is_loaded(
    toy: WanModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # What was tried is remembered by device. No other test uses this one.
    model, memory = replace(toy, preferences=Preferences(kernels="kitchen")), DeviceMemory("cpu:0")
    memory.auto_dtype = lambda part: torch.bfloat16 if part == "vae" else torch.float32  # type: ignore[method-assign]
    caplog.set_level(logging.INFO)
    with pytest.raises(ModelError, match="kernels: kitchen does not run on cpu:0 here: float32 only"):
        run(REQUEST, model, out=tmp_path / "a.mp4", memory=memory, progress=Silent())
    assert not [line for line in caplog.messages if line.startswith("loading")]
