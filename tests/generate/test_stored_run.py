"""A run with `precision: stored`: said before it starts, in its receipt, and off everywhere else."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import quantised_files as files
import tiny_files as tiny
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.embedded.toy_model import embedded_loras
from wan_duet.pipelines.errors import ModelError
from wan_duet.pipelines.generate.local_receipt import read_receipt
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.generate.memory_estimate import estimate_memory
from wan_duet.pipelines.generate.stored_findings import expected_stored_findings, stored_findings
from wan_duet.pipelines.kernels.choices import Preferences
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import t2v_request
from wan_duet.pipelines.request.parse import parse
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.lora.find import LoraSources
from wan_duet.pipelines.weights.recipe import Recipe
from wan_duet.pipelines.weights.stored_tensors import Files

from .toy_runs import Make, latents

FEW = {
    "prompt": "a ball moving right", "num_frames": 5, "num_inference_steps": 2, "seed": 7,
    "aspect_ratio": "1:1", "interpolator_model": "none",
}  # fmt: skip
CPU = torch.device("cpu")


def stored_as(model: WanModel, kind: str, folder: Path) -> WanModel:
    """The model with its experts in files of this format, precision auto."""
    experts = dict[str, Recipe]()
    for name, recipe in model.experts.items():
        with Files(CPU) as opened:
            weights = {key: tensor.compute(opened).float() for key, tensor in recipe.tensors.items()}
        file = tiny.save(folder / f"{name}.safetensors", files.quantised(weights, kind, tiny.is_linear)[0])
        experts[name] = Recipe.of(recipe.config, read_checkpoint(file).tensors)
    return replace(model, experts=MappingProxyType(experts))


@pytest.fixture(scope="module")
def in_fp8(toy: WanModel, tmp_path_factory: pytest.TempPathFactory) -> WanModel:
    return stored_as(toy, "fp8 per row", tmp_path_factory.mktemp("fp8"))


def test_it_is_named_in_the_receipt(make: Make, in_fp8: WanModel) -> None:
    stored, lora = replace(in_fp8, precision="stored"), {"path": "toy/outlined", "transformer": "low"}
    made = make(model=stored, loras=[lora])
    receipt = made.receipt
    assert receipt["lossy_by_choice"] == ["precision_stored"]
    layers = {"format": "fp8 per row", "layers": 30, "way": "fp8 on a CPU", "reason": ""}
    assert receipt["model"]["stored"] == {"high": [layers], "low": [layers]}
    (said,) = [finding for finding in receipt["findings"] if finding["field"] == "precision"]
    assert said["reason"].startswith("lossy by choice: 60 layers in fp8 per row: products by fp8 on a CPU")
    assert latents(made) != latents(make(model=in_fp8, loras=[lora]))
    assert read_receipt(sidecar(made.path)).precision == "stored"


def test_numbers_that_are_not_quantised_compute_as_ever_and_that_is_said(make: Make, toy: WanModel) -> None:
    made = make(model=replace(toy, precision="stored"))
    plain = make()
    assert latents(made) == latents(plain)
    assert "stored" not in plain.receipt["model"]
    assert "lossy_by_choice" not in made.receipt
    (said,) = [finding for finding in made.receipt["findings"] if finding["field"] == "precision"]
    assert (said["status"], said["asked"], said["used"]) == ("adjusted", "stored", "auto")
    assert "60 layers in plain numbers: decoded, as without it: F16 is not quantised" in said["reason"]


def test_a_speech_computes_on_stored_numbers_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderKLWan(base_dim=2, z_dim=16, num_res_blocks=1).save_pretrained(tmp_path / "vae")
    toy = replace(load_model("toy-speech"), vae=read_component(tmp_path / "vae"))
    in_int8 = stored_as(toy, "int8 per row", tmp_path)
    picture, sound = tmp_path / "who.png", tmp_path / "voice.wav"
    Image.new("RGB", (50, 50), "red").save(picture)
    with wave.open(str(sound), "wb") as out:
        out.setparams((1, 2, 16000, 0, "NONE", ""))
        out.writeframes(bytes(2 * 16000))
    request = parse(
        "speech-to-video",
        {"prompt": "a", "image_url": str(picture), "audio_url": str(sound), "num_frames": 40,
         "num_inference_steps": 1, "seed": 3},
    )  # fmt: skip
    steps = []
    for model in (in_int8, replace(in_int8, precision="stored")):
        out_file = tmp_path / f"{model.precision}.mp4"
        made = run(
            request, model, out=out_file, memory=DeviceMemory("cpu"), progress=Silent(), max_seconds=0.3
        )
        steps.append(made.receipt["step_fingerprints"])
    assert steps[0] != steps[1]
    (use,) = made.receipt["model"]["stored"]["high"]
    assert (use["format"], use["layers"], use["way"]) == ("int8 per row", 45, "int8 on a CPU")


def test_off_the_recipes_are_the_very_same(in_fp8: WanModel) -> None:
    assert all(in_fp8.experts_on(CPU)[name] is recipe for name, recipe in in_fp8.experts.items())
    assert not any(in_fp8.stored_uses(CPU).values())
    assert not stored_findings(in_fp8, CPU)


def test_the_work_of_loras_is_told_before_the_run(in_fp8: WanModel) -> None:
    stored = replace(in_fp8, precision="stored")
    request = t2v_request(prompt="a", loras=[{"path": "toy/outlined", "scale": 1.0, "transformer": "low"}])
    found = expected_stored_findings(stored, request, LoraSources(embedded=embedded_loras()), CPU)
    (lora,) = stored.with_lora(embedded_loras()["toy/outlined"], 1.0, "low").loras
    assert lora.coverage.matched
    assert "; LoRAs beside the products add " in found[0].reason
    missing = t2v_request(prompt="a", loras=[{"path": "nowhere.safetensors"}])
    (without,) = expected_stored_findings(stored, missing, LoraSources(), CPU)
    assert (without.status, "LoRAs" in without.reason) == ("warning", False)
    assert expected_stored_findings(in_fp8, request, LoraSources(), CPU) == []


def test_the_estimate_counts_the_bytes_of_the_format(in_fp8: WanModel) -> None:
    found = [
        estimate_memory(
            replace(in_fp8, precision=precision), DeviceMemory("cpu"), (1, 16, 2, 8, 8), ["high"],
            sampling_only=True,
        ).stages[0]
        for precision in ("auto", "stored")
    ]  # fmt: skip
    assert found[1].weights_bytes < 0.45 * found[0].weights_bytes  # a byte for a float32 in the blocks


def test_compiled_blocks_and_stored_numbers_exclude_each_other() -> None:
    with pytest.raises(ModelError, match="compile: compiled blocks do not compute on stored numbers"):
        load_model("toy", precision="stored", preferences=Preferences(compiler="inductor"))
