"""LoRAs onto a model, and what the receipt and the user hear of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.download.downloads import Downloads
from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.download.web import Web
from wan_duet.pipelines.errors import LoraError
from wan_duet.pipelines.generate.local_receipt import make_receipt
from wan_duet.pipelines.generate.lora_chain import lora_report, with_loras
from wan_duet.pipelines.generate.media_inputs import MediaInputs
from wan_duet.pipelines.generate.memory_estimate import MemoryEstimate
from wan_duet.pipelines.generate.prepared_run import Run
from wan_duet.pipelines.kernels.choices import FloatChoices, KernelChoice
from wan_duet.pipelines.loading.wan_model import WanModel
from wan_duet.pipelines.plan import make_plan
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import check, read_loras, t2v_request
from wan_duet.pipelines.weights.lora.find import LoraSources

ADDRESS = "https://files.example/style.safetensors?X-Signature=s3cret"


@pytest.fixture(scope="module")
def lora(toy: WanModel) -> bytes:
    rows, columns = toy.experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    parts = {"A": torch.ones(1, columns), "B": torch.ones(rows, 1)}
    return save({f"blocks.0.attn1.to_q.lora_{side}.weight": part for side, part in parts.items()})


@pytest.fixture
def sources(tmp_path: Path, lora: bytes) -> LoraSources:
    """One embedded LoRA, one local file, and a web where every address answers with the same LoRA."""
    for name in ("circling", "a"):
        (tmp_path / f"{name}.safetensors").write_bytes(lora)
    web = httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(lora)))
    downloads = Downloads(tmp_path / "kept", Web(PublicTransport(web, lambda *_: ["1.1.1.1"])))
    return LoraSources([tmp_path], {"toy/circling": tmp_path / "circling.safetensors"}, downloads)


def test_loras_from_every_place_end_on_the_experts_they_were_chosen_for(
    toy: WanModel, sources: LoraSources
) -> None:
    chosen = [
        {"path": "toy/circling", "transformer": "high"},
        {"path": "a.safetensors", "transformer": "low", "scale": 0.5},
        {"path": ADDRESS, "transformer": "both"},
    ]
    made = with_loras(toy, read_loras(chosen), sources, Silent())
    done = [(lora.file.name.partition(".")[0], lora.expert, lora.strength) for lora in made.loras]
    assert done == [
        ("circling", "high", 1.0),
        ("a", "low", 0.5),
        ("style", "high", 1.0),
        ("style", "low", 1.0),
    ]
    assert toy.loras == ()


def test_a_missing_lora_stops_before_any_is_fetched_or_attached(toy: WanModel, sources: LoraSources) -> None:
    with pytest.raises(LoraError, match=r"gone\.safetensors not found"):
        with_loras(toy, read_loras([{"path": ADDRESS}, {"path": "gone.safetensors"}]), sources, Silent())
    assert sources.downloads is not None
    assert not sources.downloads.folder.exists()


def test_each_file_is_told_of_once_with_every_expert_and_its_address(
    toy: WanModel, sources: LoraSources, lora: bytes
) -> None:
    made = with_loras(toy, read_loras([{"path": ADDRESS, "transformer": "both"}]), sources, Silent())
    text = lora_report(made.loras)
    digest = hashlib.sha256(lora).hexdigest()[:12]
    assert text.count("dialect:") == 1
    assert "\n  high at 1: 2 keys matched" in text
    assert "\n  low at 1: 2 keys matched" in text
    assert text.endswith(
        f"  downloaded from https://files.example/style.safetensors, kept as style.{digest}.safetensors"
    )


def test_the_receipt_names_the_address_and_the_content_but_no_signature(
    toy: WanModel, sources: LoraSources, lora: bytes, tmp_path: Path
) -> None:
    request = t2v_request(prompt="a", seed=1, loras=[{"path": ADDRESS}])
    model = with_loras(toy, request.loras, sources, Silent())
    report = check(request, family=toy.family)
    plan = make_plan(report.require(), toy.family, seed=1)
    estimate, out = MemoryEstimate("cpu", "float32", (), None, None), tmp_path / "a.mp4"
    decided = (request, report, plan, model, MediaInputs(), DeviceMemory("cpu"), Silent(), estimate)
    kernels = {"choices": FloatChoices(), "vae_kernels": KernelChoice("plain")}
    run = Run(*decided, **kernels, checker=None, out=out)
    receipt = make_receipt(run, {}, prompt="a", latents_sha256="")
    shown = "https://files.example/style.safetensors"
    assert receipt["request"]["loras"][0]["path"] == shown
    assert receipt["model"]["loras"][0]["origin"] == {
        "address": shown,
        "sha256": hashlib.sha256(lora).hexdigest(),
        "revision": None,
    }
    assert "s3cret" not in json.dumps(receipt)
