"""Of broken files the nodes say what the library says, and so the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import quantised_files as quantised
import tiny_files as tiny
import torch
from safetensors.torch import save_file

from wan_duet.pipelines.errors import HostError, LoraError, ModelError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.weights.checkpoint import read_checkpoint
from wan_duet.pipelines.weights.lora.lora_file import read_lora

MODULE = "diffusion_model.blocks.0.self_attn.q"
LORAS = ("adalora", "cut", "half", "pissa", "twice", "wrong_rank")
MODELS = ("no_scale", "no_layer", "cut_model")


@pytest.fixture(scope="module", autouse=True)
def broken(models: Path) -> Path:
    rows, columns = load_model("toy").experts["high"].tensors["blocks.0.attn1.to_q.weight"].shape
    down, up = torch.full((2, columns), 0.01), torch.ones(rows, 2)
    pair = {f"{MODULE}.lora_A.weight": down, f"{MODULE}.lora_B.weight": up}
    folder = models / "loras"
    for name, weights in {
        "adalora": {f"{MODULE}.lora_A": down, f"{MODULE}.lora_B": up, f"{MODULE}.lora_E": torch.ones(2, 1)},
        "half": {f"{MODULE}.lora_A.weight": down},
        "twice": {**pair, f"{MODULE}.lora_down.weight": down.clone()},
        "wrong_rank": {**pair, f"{MODULE}.lora_B.weight": torch.ones(rows, 3)},
        "cut": pair,
    }.items():
        save_file(weights, folder / f"{name}.safetensors")
    whole = (folder / "cut.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-40])
    (folder / "pissa").mkdir()
    save_file(pair, folder / "pissa" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "init_lora_weights": "pissa"}
    (folder / "pissa" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")

    weights = tiny.wan_transformer_names(tiny.transformer(0))
    stored = quantised.quantised(weights, "fp8 per row", tiny.is_linear)[0]
    scales = [key for key in stored if key.startswith("blocks.") and key.endswith("scale")]
    place = models / "diffusion_models"
    tiny.save(
        place / "no_scale.safetensors", {key: value for key, value in stored.items() if key != scales[1]}
    )
    said = json.dumps({"layers": {"blocks.99.ffn.0": {"format": "mxfp8"}}})
    tiny.save(place / "no_layer.safetensors", weights, _quantization_metadata=said)
    (place / "cut_model.safetensors").write_bytes((place / "no_scale.safetensors").read_bytes()[:-40])
    return models


def lora_file(models: Path, name: str) -> Path:
    folder = models / "loras"
    return (
        folder / "pissa" / "adapter_model.safetensors" if name == "pissa" else folder / f"{name}.safetensors"
    )


def words(error: Exception, file: Path) -> str:
    """The message without the folders of the file, which each face may show or not."""
    return str(error).replace(f"{file.parent}/", "").partition(": ")[2]


def told(client: ComfyClient, asked: dict[str, Any]) -> str:
    with pytest.raises(HostError) as caught:
        client.run(asked)
    return str(caught.value).replace("\\n", " ")


@pytest.mark.parametrize("name", LORAS)
def test_a_broken_lora_is_told_by_every_node(
    client: ComfyClient, defaults: dict[str, dict[str, Any]], broken: Path, name: str
) -> None:
    file = lora_file(broken, name)
    with pytest.raises(LoraError) as caught:
        read_lora(file)
    wanted, path = words(caught.value, file), str(file.relative_to(broken / "loras"))

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": {**defaults.get(kind, {}), **inputs}}

    loras = json.dumps([{"path": path}])
    asked = {
        "model": node("WanDuetLoadModel", model="toy"),
        "asked": node("WanDuetTextToVideo", prompt="a red ball", num_frames=17),
        "request": node("WanDuetRequestLora", request=["asked", 0], loras=loras),
    }
    lora = asked | {
        "lora": node(
            "WanDuetLora", model=["model", 0], file="none", path=path, scale=1.0, transformer="high"
        ),
        "shown": node("PreviewAny", source=["lora", 1]),
    }
    assert wanted in told(client, lora)
    checked = asked | {
        "check": node("WanDuetCheck", request=["request", 0], runner="local", model=["model", 0])
    }
    assert wanted in client.run(checked).outputs["check"]["text"][0]
    run = asked | {
        "run": node("WanDuetRunLocal", request=["request", 0], model=["model", 0]),
        "shown": node("PreviewAny", source=["run", 4]),
    }
    assert wanted in told(client, run)


@pytest.mark.parametrize("name", MODELS)
def test_a_broken_model_is_told_by_the_node_that_loads_it(
    client: ComfyClient, defaults: dict[str, dict[str, Any]], broken: Path, name: str
) -> None:
    file = broken / "diffusion_models" / f"{name}.safetensors"
    with pytest.raises(ModelError) as caught:
        read_checkpoint(file)
    chosen = {"model": file.name, "vae": "2.1.safetensors", "text_encoder": "umt5.safetensors"}
    asked = {
        "model": {
            "class_type": "WanDuetLoadModel",
            "inputs": {**defaults["WanDuetLoadModel"], **chosen},
        },
        "latent": {
            "class_type": "WanDuetEmptyLatent",
            "inputs": {**defaults["WanDuetEmptyLatent"], "model": ["model", 0]},
        },
        "shown": {"class_type": "PreviewAny", "inputs": {"source": ["latent", 0]}},
    }
    assert words(caught.value, file) in told(client, asked)
