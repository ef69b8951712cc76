"""Requests on ComfyUI's MODEL, CLIP and VAE: the same run as with the building blocks, and what is said."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from graphs import Bench, Node, distance, node, ours, start

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient

PROMPT = "a red ball"


def defaults(client: ComfyClient, node_id: str) -> dict[str, Any]:
    """Every widget of a node, as it comes."""
    inputs = client.get(f"/object_info/{node_id}")[node_id]["input"]
    rows = {**inputs["required"], **inputs.get("optional", {})}
    return {name: row[1]["default"] for name, row in rows.items() if "default" in row[1]}


def host(**changed: object) -> dict[str, Node]:
    parts = {"high": ["core high", 0], "low": ["core low", 0], "clip": ["clip", 0], "vae": ["vae", 0]}
    return start() | {
        "clip": node("ProbeClip"),
        "vae": node("VAELoader", vae_name="toy.safetensors"),
        "model": node("WanDuetFromComfy", **{**parts, **changed}),
    }


def request(client: ComfyClient, kind: str, **asked: object) -> dict[str, Node]:
    settings = {**defaults(client, kind), "prompt": PROMPT, "seed": 5, **asked}
    run = defaults(client, "WanDuetRunLocal") | {"return_images": True}
    return {
        "request": node(kind, **settings),
        "run": node("WanDuetRunLocal", **run, request=["request", 0], model=["model", 0]),
        "check": node("WanDuetCheck", request=["request", 0], runner="local", model=["model", 0]),
        "receipt": node("PreviewAny", source=["run", 4]),
    }


def image(client: ComfyClient, **asked: object) -> dict[str, Node]:
    small = {"image_size": "custom", "width": 112, "height": 64, "num_inference_steps": 4}
    return request(client, "WanDuetTextToImage", **{**small, **asked})


def test_a_request_equals_the_building_blocks_and_names_its_exactness(
    bench: Bench, core_client: ComfyClient
) -> None:
    settings = {"steps": 4, "shift": 5.0, "guidance_scale": 3.5, "guidance_scale_2": 4.0}
    asked = {"num_inference_steps": 4, "shift": 5.0, "guidance_scale": 3.5, "guidance_scale_2": 4.0}
    graph = host() | image(core_client, **asked)
    graph |= {
        "text": node("WanDuetEncodePrompt", model=["model", 0], prompt=PROMPT, negative_prompt=""),
        "one": node("WanDuetEmptyLatent", model=["model", 0], width=112, height=64, num_frames=1),
        "sampled": ours("unipc", latent=["one", 0], **settings),
        "decoded": node("WanDuetDecode", model=["model", 0], latent=["sampled", 0]),
        "saved receipt": node("ProbeText", value=["run", 4], name="receipt.json"),
    }
    graph["sampled"]["inputs"] |= {"positive": ["text", 0], "negative": ["text", 1]}
    graph["run images"] = node("ProbeSave", value=["run", 1], name="run.safetensors")
    (decoded,) = bench.values(graph, "decoded")
    made = bench.saved("run.safetensors")
    assert distance(made, (decoded * 255).round() / 255) <= 1e-3
    receipt = json.loads((bench.comfyui.output / "receipt.json").read_text())
    model = receipt["model"]
    assert (model["exactness"], model["family"]) == ("host", "wan2.2-t2v-a14b")
    assert model["experts"]["high"] == {"class": "WAN21_T2V", "file": "high.safetensors", "patches": []}
    assert torch.isfinite(made).all()


@pytest.mark.parametrize("missing", ["clip", "vae"])
def test_a_missing_part_is_named_by_the_input_that_takes_it(
    bench: Bench, core_client: ComfyClient, missing: str
) -> None:
    graph = host() | image(core_client)
    del graph["model"]["inputs"][missing]
    with pytest.raises(HostError, match=f"{missing}: not connected to Wan Duet Model from ComfyUI"):
        core_client.run(graph)


def test_a_model_that_is_no_wan_is_refused_by_its_class(core_client: ComfyClient) -> None:
    graph = start() | {"other": node("ProbeOtherModel"), "model": node("WanDuetFromComfy", high=["other", 0])}
    graph["shown"] = node("PreviewAny", source=["model", 0])
    with pytest.raises(HostError, match="high: the MODEL is Linear, which is no Wan model"):
        core_client.run(graph)


def test_check_says_what_one_model_was_taken_for_and_which_shift_and_patch_count(
    core_client: ComfyClient,
) -> None:
    graph = host(high=["nag", 0])
    del graph["model"]["inputs"]["low"]
    graph |= {
        "shifted": node("ModelSamplingSD3", model=["core high", 0], shift=3.0),
        "nag": node("NAGuidance", model=["shifted", 0], nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
    }
    graph |= request(core_client, "WanDuetTextToVideo")
    del graph["run"], graph["receipt"]
    job = core_client.run(graph)
    report = job.outputs["check"]["text"][0]
    assert "counts as wan2.1-t2v-14b" in report
    assert "a patch on the model says 3, but the request's decides" in report
    assert "NAGuidance.execute.nag_attention_output_patch: has no effect on a Wan model" in report


def test_a_request_lora_is_attached_by_comfyui_and_reported(bench: Bench, core_client: ComfyClient) -> None:
    loras = json.dumps([{"path": "wan.safetensors", "scale": 1.0, "transformer": "both"}])
    lora = defaults(core_client, "WanDuetRequestLora") | {"loras": loras}
    plain, changed = host() | image(core_client), host() | image(core_client)
    changed["with"] = node("WanDuetRequestLora", request=["request", 0], **lora)
    changed["run"]["inputs"]["request"] = ["with", 0]
    images = []
    for graph in (plain, changed):
        graph["images"] = node("ProbeSave", value=["run", 1], name="run.safetensors")
        core_client.run(graph)
        images.append(bench.saved("run.safetensors"))
    assert distance(images[1], images[0]) > 1e-3
