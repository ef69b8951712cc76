"""Requests on ComfyUI's MODEL, CLIP and VAE: the same run as with the building blocks, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from graphs import Bench, Node, defaults, distance, node, ours, start

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient

PROMPT = "a red ball"
WORKFLOWS = Path(__file__).parents[3] / "workflows"


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
        job = core_client.run(graph)
        images.append(bench.saved("run.safetensors"))
    assert distance(images[1], images[0]) > 1e-3
    model = json.loads(job.outputs["receipt"]["text"][0])["model"]
    assert [(lora["file"], lora["expert"]) for lora in model["loras"]] == [
        ("wan.safetensors", "high"),
        ("wan.safetensors", "low"),
    ]
    assert [expert["patches"] for expert in model["experts"].values()] == 2 * [["weights: 8 tensors"]]


def test_a_vae_that_is_no_wan_vae_decodes_in_one_go_and_the_receipt_says_so(
    bench: Bench, core_client: ComfyClient
) -> None:
    graph = host(vae=["other vae", 0]) | image(core_client)
    graph |= {
        "other vae": node("ProbeTinyAutoencoder"),
        "text": node("WanDuetEncodePrompt", model=["model", 0], prompt=PROMPT, negative_prompt=""),
        "one": node("WanDuetEmptyLatent", model=["model", 0], width=112, height=64, num_frames=1),
        "nine": node("WanDuetEmptyLatent", model=["model", 0], width=112, height=64, num_frames=9),
        "ours": node("WanDuetDecode", model=["model", 0], latent=["nine", 0]),
        "core": node("VAEDecode", vae=["other vae", 0], samples=["nine", 0]),
        "images": node("ProbeSave", value=["run", 1], name="run.safetensors"),
        "saved receipt": node("ProbeText", value=["run", 4], name="receipt.json"),
    }
    ours_, core = bench.values(graph, "ours", "core")
    assert ours_.shape == core.shape == (9, 64, 112, 3)
    assert distance(ours_, core.clamp(0, 1)) <= 1e-6
    receipt = json.loads((bench.comfyui.output / "receipt.json").read_text())
    assert receipt["decoded"] == "the whole clip in one go, by TAEHV of ComfyUI"
    assert receipt["model"]["vae"]["class"] == "TAEHV"
    assert bench.saved("run.safetensors").shape == (1, 64, 112, 3)
    report = str(core_client.run(_checked(graph)).outputs["check"]["text"][0])
    assert "vae: TAEHV is no Wan VAE, so ComfyUI decodes the whole clip in one go" in report


def test_a_wan_vae_of_comfyui_gives_the_frames_that_comfyui_decodes(bench: Bench) -> None:
    """Ours, from its tensors, one latent frame after another."""
    graph = host() | {
        "sampled": ours("euler"),
        "decoded": node("WanDuetDecode", model=["model", 0], latent=["sampled", 0]),
        "core": node("VAEDecode", vae=["vae", 0], samples=["sampled", 0]),
    }
    decoded, core = bench.values(graph, "decoded", "core")
    assert decoded.shape == core.shape == (9, 64, 80, 3)
    assert core.std() > 0.02  # something is drawn
    assert distance(decoded, core.clamp(0, 1)) <= 1e-5


def test_check_counts_the_tokens_of_comfyuis_text_encoder(core_client: ComfyClient) -> None:
    told = "tokens: longer than the 512 tokens that the model was trained on; ComfyUI uses all of them"
    reports = []
    for words in (510, 512, 700):
        graph = host() | image(core_client, prompt="ball " * words)
        reports.append(str(core_client.run(_checked(graph)).outputs["check"]["text"][0]))
    assert [told in report for report in reports] == [False, True, True]
    assert f"warning: prompt 701 {told}" in reports[-1]  # and the end of the sequence


def test_a_vae_of_other_latents_is_refused_by_its_class(core_client: ComfyClient) -> None:
    graph = host(vae=["other vae", 0], high=["small", 0])
    del graph["model"]["inputs"]["low"]
    graph |= {
        "other vae": node("ProbeTinyAutoencoder"),
        "small": node("UNETLoader", unet_name="narrow small FastWan.safetensors", weight_dtype="default"),
        "shown": node("PreviewAny", source=["model", 0]),
    }
    with pytest.raises(HostError, match="vae: TAEHV has 3-dimensional latents of 16 channels"):
        core_client.run(graph)


def test_the_template_runs_on_tiny_files_of_the_same_names(bench: Bench, core_client: ComfyClient) -> None:
    """But its text encoder, of which ComfyUI builds one size only, and its size: the flat VAE is quick."""
    file = WORKFLOWS / "api" / "Any ComfyUI model, our request.json"
    graph: dict[str, Node] = json.loads(file.read_text(encoding="utf-8"))
    quick = {"num_frames": 17, "num_inference_steps": 2, "aspect_ratio": "1:1"}
    for item in graph.values():
        item["inputs"] |= {name: value for name, value in quick.items() if name in item["inputs"]}
    kinds = {item["class_type"]: name for name, item in graph.items()}
    graph[kinds["CLIPLoader"]] = node("ProbeClip")
    graph["flat"] = node("ProbeFlatVae", channels=16, side=8)
    run, model = graph[kinds["WanDuetRunLocal"]]["inputs"], graph[kinds["WanDuetFromComfy"]]["inputs"]
    graph["quick"] = node("WanDuetFromComfy", **{**model, "vae": ["flat", 0]})
    run["model"] = ["quick", 0]
    graph["saved receipt"] = node("ProbeText", value=[kinds["WanDuetRunLocal"], 4], name="receipt.json")
    job = core_client.run(graph, timeout_s=600)
    assert job.outputs[kinds["SaveVideo"]]
    assert "can run (local on wan2.2-t2v-a14b)" in job.outputs[kinds["WanDuetCheck"]]["text"][0]
    experts = json.loads((bench.comfyui.output / "receipt.json").read_text())["model"]["experts"]
    loaders = [item["inputs"] for item in graph.values() if item["class_type"] == "UNETLoader"]
    assert {expert["file"] for expert in experts.values()} == {item["unet_name"] for item in loaders}


def _checked(graph: dict[str, Node]) -> dict[str, Node]:
    """Without what samples."""
    return {
        name: item
        for name, item in graph.items()
        if name not in ("run", "receipt", "saved receipt", "images")
    }
