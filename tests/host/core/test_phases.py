"""A request in phases, with LoRAs in some of them, equals a chain of Stage Samplers over the same steps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphs import Bench, Node, defaults, distance, node, our_stage, start

from wan_duet.pipelines.headless.client import ComfyClient

LORA, SIZE, STEPS = "wan.safetensors", {"width": 112, "height": 64}, 4
PHASES: list[dict[str, Any]] = [
    {"expert": "high", "steps": 1, "guidance": 3.5},
    {"expert": "high", "steps": 1, "guidance": 2.0, "loras": [{"path": LORA, "scale": 0.7}]},
    {"expert": "low", "steps": 2, "guidance": 1.0, "loras": [{"path": LORA, "scale": 1.0}]},
]


def models(client: ComfyClient, of_comfyui: bool) -> dict[str, Node]:
    """Ours, or ComfyUI's: without a LoRA, and with that of either phase."""
    graph = start()
    if not of_comfyui:
        rows = defaults(client, "WanDuetLora")
        for stage, strength in (("high", 0.7), ("low", 1.0)):
            chosen = {"model": ["model", 0], "file": LORA, "scale": strength, "transformer": stage}
            graph[f"with {stage}"] = node("WanDuetLora", **{**rows, **chosen})
        return graph
    parts = {"clip": ["clip", 0], "vae": ["vae", 0]}
    experts = {stage: [f"core {stage}", 0] for stage in ("high", "low")}
    graph |= {"clip": node("ProbeClip"), "vae": node("VAELoader", vae_name="toy.safetensors")}
    graph["model"] = node("WanDuetFromComfy", **experts, **parts)
    for stage, strength in (("high", 0.7), ("low", 1.0)):
        graph[f"patched {stage}"] = node(
            "LoraLoaderModelOnly", model=experts[stage], lora_name=LORA, strength_model=strength
        )
        graph[f"with {stage}"] = node(
            "WanDuetFromComfy", **{**experts, stage: [f"patched {stage}", 0]}, **parts
        )
    return graph


def asked(client: ComfyClient, phases: list[dict[str, Any]]) -> dict[str, Node]:
    """The request, run. Its first output of interest is `run images`."""
    kind, setting = "WanDuetTextToImage", defaults(client, "WanDuetRequestLocal")
    settings = {"prompt": "a red ball", "seed": 5, "num_inference_steps": STEPS, "shift": 5.0, **SIZE}
    local = {"phases": json.dumps(phases), "solver": "euler"}
    run = defaults(client, "WanDuetRunLocal") | {"return_images": True}
    return {
        "request": node(kind, **{**defaults(client, kind), **settings, "image_size": "custom"}),
        "local": node("WanDuetRequestLocal", request=["request", 0], **{**setting, **local}),
        "run": node("WanDuetRunLocal", **run, request=["local", 0], model=["model", 0]),
        "run images": node("ProbeSave", value=["run", 1], name="run.safetensors"),
    }


def chained() -> dict[str, Node]:
    """The same steps, one sampler for each phase."""
    graph = {
        "text": node("WanDuetEncodePrompt", model=["model", 0], prompt="a red ball", negative_prompt=""),
        "one": node("WanDuetEmptyLatent", model=["model", 0], num_frames=1, **SIZE),
        "levels": node(
            "WanDuetSigmas", model=["model", 0], solver="euler", steps=STEPS, shift=5.0, boundary=-1.0
        ),
        "rest 0": node("SplitSigmas", sigmas=["levels", 2], step=1),
        "rest 1": node("SplitSigmas", sigmas=["rest 0", 1], step=1),
    }
    places = (["rest 0", 0], ["rest 1", 0], ["rest 1", 1])
    sources = ("model", "with high", "with low")
    latent: list[object] = ["one", 0]
    for index, (phase, sigmas, source) in enumerate(zip(PHASES, places, sources, strict=True)):
        made = our_stage(
            phase["expert"], latent, sigmas=sigmas, guidance_scale=phase["guidance"], add_noise=not index
        )
        made["inputs"] |= {"model": [source, 0], "positive": ["text", 0], "negative": ["text", 1]}
        graph[f"phase {index}"] = made
        latent = [f"phase {index}", 0]
    return graph | {"decoded": node("WanDuetDecode", model=["model", 0], latent=latent)}


@pytest.mark.parametrize("of_comfyui", [False, True], ids=["our engine", "a MODEL of ComfyUI"])
def test_phases_with_loras_equal_chained_stage_samplers(
    bench: Bench, core_client: ComfyClient, of_comfyui: bool
) -> None:
    graph = models(core_client, of_comfyui) | asked(core_client, PHASES) | chained()
    (parts,) = bench.values(graph, "decoded")
    made, parts = bench.saved("run.safetensors"), (parts * 255).round() / 255
    assert distance(made, parts) <= 1e-3
    without = [{name: phase[name] for name in phase if name != "loras"} for phase in PHASES]
    core_client.run(models(core_client, of_comfyui) | asked(core_client, without))
    assert distance(bench.saved("run.safetensors"), parts) > 1e-2
