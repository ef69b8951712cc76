"""Our model in ComfyUI's samplers: the same bits as ComfyUI's own loader."""

from __future__ import annotations

import pytest
import torch
from graphs import SEED, Bench, Node, node, ours, start

from wan_duet.pipelines.headless.client import ComfyClient


def k_sampler(model: list[object]) -> Node:
    wires = {"positive": ["positive", 0], "negative": ["negative", 0], "latent_image": ["latent", 0]}
    settings = {"steps": 3, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return node("KSampler", model=model, seed=SEED, **wires, **settings)


def test_our_experts_in_a_k_sampler_equal_comfyuis_loader_bit_for_bit(bench: Bench) -> None:
    graph = start() | {
        "out": node("WanDuetToComfy", model=["model", 0], materialise=False),
        "our high": k_sampler(["out", 0]),
        "our low": k_sampler(["out", 1]),
        "high": k_sampler(["core high", 0]),
        "low": k_sampler(["core low", 0]),
    }
    high, low, core_high, core_low = bench.values(graph, "our high", "our low", "high", "low")
    assert torch.equal(high, core_high)
    assert torch.equal(low, core_low)
    assert not torch.equal(high, low)


@pytest.mark.parametrize(("file", "dialect"), [("wan.safetensors", "known"), ("hf.safetensors", "unknown")])
def test_loras_of_the_model_go_with_it(bench: Bench, file: str, dialect: str) -> None:
    lora = {"file": file, "transformer": "both", "path": "", "weight_name": "", "scale": 0.7}
    graph = start() | {
        "with": node("WanDuetLora", model=["model", 0], **lora),
        "out": node("WanDuetToComfy", model=["with", 0], materialise=False),
        "ours": k_sampler(["out", 0]),
        "patched": node(
            "LoraLoaderModelOnly",
            model=["core high", 0],
            lora_name="wan.safetensors",
            strength_model=0.7,
        ),
        "core": k_sampler(["patched", 0]),
        "plain": k_sampler(["core high", 0]),
    }
    mine, core, plain = bench.values(graph, "ours", "core", "plain")
    assert torch.equal(mine, core) if dialect == "known" else torch.allclose(mine, core, atol=1e-4)
    assert (mine - plain).abs().max() > 1e-2


def test_out_and_in_again_is_the_same_model(bench: Bench) -> None:
    graph = start() | {
        "out": node("WanDuetToComfy", model=["model", 0], materialise=False),
        "in": node("WanDuetFromComfy", high=["out", 0], low=["out", 1]),
        "engine": ours(),
        "host": ours(model=["in", 0]),
    }
    engine, host = bench.values(graph, "engine", "host")
    assert (engine - host).norm() / engine.norm() <= 1e-5


@pytest.mark.parametrize(("model", "output"), [("toy", 2), ("toy", 3), ("toy-speech", 0), ("toy-speech", 1)])
def test_what_comfyui_cannot_hold_stops_only_what_needs_it(
    core_client: ComfyClient, model: str, output: int
) -> None:
    consumer = {
        0: lambda wire: node("ModelSamplingSD3", model=wire, shift=3.0),
        1: lambda wire: node("ModelSamplingSD3", model=wire, shift=3.0),
        2: lambda wire: node("CLIPTextEncode", clip=wire, text=""),
        3: lambda wire: node("VAEDecode", vae=wire, samples=["latent", 0]),
    }[output](["out", output])
    graph = start() | {
        "model": node("WanDuetLoadModel", model=model, precision="auto"),
        "out": node("WanDuetToComfy", model=["model", 0], materialise=False),
        "used": consumer,
        "shown": node("PreviewAny", source=["used", 0]),
        "other": node("PreviewAny", source=["model", 0]),
    }
    job = core_client.run(graph)
    assert "other" in job.outputs
    assert "shown" not in job.outputs
