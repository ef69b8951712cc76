"""Several results of one graph: a count of seeds, and the images of a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

SMALL = {
    "prompt": "a red ball moves left",
    "num_frames": 17,
    "num_inference_steps": 2,
    "interpolator_model": "none",
    "seed": 7,
}


def graph(defaults: dict[str, dict[str, Any]], request: str, model: str, **asked: Any) -> dict[str, Any]:
    """A graph that runs a request and saves its videos, and shows seeds and receipts."""

    def node(name: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": name, "inputs": {**defaults.get(name, {}), **inputs}}

    return {
        "request": node(request, **{**SMALL, **asked}),
        "local": node("WanDuetRequestLocal", request=["request", 0]),
        "model": node("WanDuetLoadModel", model=model),
        "run": node("WanDuetRunLocal", request=["local", 0], model=["model", 0]),
        "seed": node("PreviewAny", source=["run", 2]),
        "receipt": node("PreviewAny", source=["run", 4]),
        "save": node("SaveVideo", video=["run", 0], filename_prefix="many", format="auto", codec="auto"),
    }


def files(shown: dict[str, Any]) -> list[str]:
    return [file["filename"] for file in shown["images"]]


def test_a_count_makes_a_video_of_each_seed(
    host: HeadlessComfyUI, client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetTextToVideo", "toy")
    asked["local"]["inputs"]["count"] = 2
    outputs = client.run(asked).outputs
    assert len(set(files(outputs["run"]))) == 2
    assert len(set(files(outputs["save"]))) == 2
    assert outputs["seed"]["text"] == ["7", "8"]
    receipts = [json.loads(text) for text in outputs["receipt"]["text"]]
    assert [receipt["seed"] for receipt in receipts] == [7, 8]
    assert receipts[0]["frames_sha256"] != receipts[1]["frames_sha256"]
    asked["request"]["inputs"]["seed"] = 8
    asked["local"]["inputs"]["count"] = 1
    alone = client.run(asked).outputs
    assert len(files(alone["run"])) == 1
    assert json.loads(alone["receipt"]["text"][0])["frames_sha256"] == receipts[1]["frames_sha256"]


def test_a_batch_of_images_says_how_each_becomes_a_video(
    client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetImageToVideo", "toy-image", prompt="a red ball moving up")
    asked["one"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
    }
    asked["other"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 65280},
    }
    asked["batch"] = {"class_type": "ImageBatch", "inputs": {"image1": ["one", 0], "image2": ["other", 0]}}
    asked["request"]["inputs"]["image"] = ["batch", 0]
    with pytest.raises(HostError, match=r"image: 2 in a batch; connect one image, or put Rebatch Images"):
        client.run(asked)
    asked["list"] = {"class_type": "RebatchImages", "inputs": {"images": ["batch", 0], "batch_size": 1}}
    asked["request"]["inputs"]["image"] = ["list", 0]
    outputs = client.run(asked).outputs
    assert len(set(files(outputs["run"]))) == len(set(files(outputs["save"]))) == 2
    receipts = [json.loads(text) for text in outputs["receipt"]["text"]]
    hashes = [receipt["inputs"]["image_url"]["sha256"] for receipt in receipts]
    assert len(set(hashes)) == 2


def test_a_list_of_prompts_makes_a_video_of_each(
    host: HeadlessComfyUI, client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetTextToVideo", "toy", prompt=["prompts", 0])
    texts = ["a red ball moves left", "a blue ball moves up"]
    asked["prompts"] = {
        "class_type": "WanDuetPromptList",
        "inputs": {"prompts": "\n".join(texts), "file": ""},
    }
    outputs = client.run(asked).outputs
    assert len(set(files(outputs["run"]))) == len(set(files(outputs["save"]))) == 2
    assert [json.loads(text)["request"]["prompt"] for text in outputs["receipt"]["text"]] == texts
