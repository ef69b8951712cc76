"""Models and LoRAs in ComfyUI's folders, as the nodes find them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient, WorkflowResult

LORA = "styles/toy high.safetensors"  # written by conftest.py


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def request_graph(client: ComfyClient, *loras: dict[str, object]) -> dict[str, Any]:
    """A short run with LoRAs, which ends in its receipt as text."""
    (info,) = client.get("/object_info/WanDuetTextToVideo").values()
    fields = {name: options.get("default") for name, (_, options) in info["input"]["required"].items()}
    graph = {
        "request 0": node(
            "WanDuetTextToVideo", **{**fields, "prompt": "a red ball", "num_inference_steps": 4}
        ),
        "model": node("WanDuetLoadModel", model="toy", precision="auto"),
    }
    for index, lora in enumerate(loras):
        settings = {
            "file": "none",
            "path": "",
            "weight_name": "",
            "scale": 1.0,
            "transformer": "high",
            **lora,
        }
        graph[f"request {index + 1}"] = node(
            "WanDuetRequestLora", request=[f"request {index}", 0], **settings
        )
    source = {"request": [f"request {len(loras)}", 0], "model": ["model", 0]}
    graph["run"] = node("WanDuetRunLocal", **source, filename_prefix="x", save=False, return_images=False)
    graph["receipt"] = node("PreviewAny", source=["run", 4])
    return graph


def receipt(job: WorkflowResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.outputs["receipt"]["text"][0])
    return found


def test_lora_is_found_applied_and_recorded(core_client: ComfyClient) -> None:
    plain = receipt(core_client.run(request_graph(core_client)))
    styled = receipt(core_client.run(request_graph(core_client, {"file": LORA, "scale": 0.5})))
    assert styled["latents_sha256"] != plain["latents_sha256"]
    assert styled["kind"] == "text-to-video-lora"
    assert styled["request"]["loras"] == [{"path": LORA, "scale": 0.5, "transformer": "high"}]
    (applied,) = styled["model"]["loras"]
    assert (applied["expert"], applied["strength"], applied["tensors"]) == ("high", 0.5, 1)


def test_several_loras_are_chained(core_client: ComfyClient) -> None:
    both = receipt(
        core_client.run(request_graph(core_client, {"file": LORA}, {"file": LORA, "transformer": "low"}))
    )
    assert [lora["expert"] for lora in both["model"]["loras"]] == ["high", "low"]


def test_name_from_a_workflow_made_on_windows_is_found(core_client: ComfyClient) -> None:
    from_here = receipt(core_client.run(request_graph(core_client, {"file": LORA})))
    from_there = receipt(core_client.run(request_graph(core_client, {"file": LORA.replace("/", "\\")})))
    assert from_there["latents_sha256"] == from_here["latents_sha256"]
    model = node("WanDuetLoadModel", model="tiny\\wan 4096", precision="auto")
    latent = node("WanDuetEmptyLatent", model=["model", 0], width=64, height=64, num_frames=1)
    save = node("SaveLatent", samples=["latent", 0], filename_prefix="x")
    core_client.run({"model": model, "latent": latent, "save": save})


def test_a_lora_is_either_a_file_or_a_path(core_client: ComfyClient) -> None:
    with pytest.raises(HostError, match="loras: both"):
        core_client.run(
            request_graph(core_client, {"file": LORA, "path": "https://example.com/x.safetensors"})
        )


@pytest.mark.parametrize(
    "path", ["https://example.com/x.safetensors", "/etc/passwd", "../../secret.safetensors"]
)
def test_a_path_reads_nothing_outside_the_lora_folders(core_client: ComfyClient, path: str) -> None:
    with pytest.raises(HostError, match="loras: "):
        core_client.run(request_graph(core_client, {"path": path}))


def test_models_that_core_does_not_list_are_listed(core_client: ComfyClient) -> None:
    (info,) = core_client.get("/object_info/WanDuetLoadModel").values()
    listed = info["input"]["required"]["model"][1]["options"]
    assert listed[0] == "toy"
    assert {"tiny/wan 4096", "some.gguf"} <= set(listed)
    (core,) = core_client.get("/object_info/UNETLoader").values()
    assert "some.gguf" not in core["input"]["required"]["unet_name"][0]  # core's own lists stay as they are


def test_a_gguf_file_is_refused_in_its_own_words(core_client: ComfyClient) -> None:
    graph = request_graph(core_client)
    graph["model"]["inputs"]["model"] = "some.gguf"
    with pytest.raises(HostError, match=r"some\.gguf: not a readable GGUF file"):
        core_client.run(graph)


@pytest.mark.parametrize("name", ["no such model", "../toy"])
def test_a_model_that_is_not_listed_is_refused_before_the_run(core_client: ComfyClient, name: str) -> None:
    graph = request_graph(core_client)
    graph["model"]["inputs"]["model"] = name
    with pytest.raises(HostError, match=f"'{name}' not in models/diffusers"):
        core_client.run(graph)
