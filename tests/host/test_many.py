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


def batch(*colours: int) -> dict[str, Any]:
    """Nodes for one-coloured images, `image0` and so on, and for the `batch` of them."""
    size = {"width": 64, "height": 64, "batch_size": 1}
    nodes: dict[str, Any] = {}
    joined = ""
    for number, colour in enumerate(colours):
        image = f"image{number}"
        nodes[image] = {"class_type": "EmptyImage", "inputs": {**size, "color": colour}}
        if joined:
            both = {"image1": [joined, 0], "image2": [image, 0]}
            nodes[f"joined{number}"] = {"class_type": "ImageBatch", "inputs": both}
        joined = f"joined{number}" if joined else image
    nodes["batch"] = nodes.pop(joined)
    return nodes


def test_a_batch_of_images_makes_a_video_of_each_with_each_seed(
    client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetImageToVideo", "toy-image", prompt="a red ball moving up")
    asked |= batch(255, 65280)
    asked["request"]["inputs"]["image"] = ["batch", 0]
    asked["local"]["inputs"]["count"] = 2
    outputs = client.run(asked).outputs
    assert len(set(files(outputs["run"]))) == len(set(files(outputs["save"]))) == 4
    assert outputs["seed"]["text"] == ["7", "8", "7", "8"]
    receipts = [json.loads(text) for text in outputs["receipt"]["text"]]
    hashes = [receipt["inputs"]["image_url"]["sha256"] for receipt in receipts]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]
    assert len({receipt["frames_sha256"] for receipt in receipts}) == 4
    said = "2 in a batch: one result of each, one after another"
    for findings in (outputs["run"]["wan_duet_findings"], *(one["findings"] for one in receipts)):
        assert [one["reason"] for one in findings].count(said) == 1
    # The last of them is what its image makes alone.
    del asked["local"]["inputs"]["count"]
    asked["request"]["inputs"] |= {"image": ["image1", 0], "seed": 8}
    [alone] = [json.loads(text) for text in client.run(asked).outputs["receipt"]["text"]]
    assert alone["frames_sha256"] == receipts[3]["frames_sha256"]
    assert alone["request"] == receipts[3]["request"]


def test_a_list_of_images_makes_a_video_of_each(
    client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetImageToVideo", "toy-image", prompt="a red ball moving up")
    asked |= batch(255, 65280)
    asked["list"] = {"class_type": "RebatchImages", "inputs": {"images": ["batch", 0], "batch_size": 1}}
    asked["request"]["inputs"]["image"] = ["list", 0]
    outputs = client.run(asked).outputs
    assert len(set(files(outputs["run"]))) == len(set(files(outputs["save"]))) == 2


def test_check_and_a_provider_say_that_each_of_a_batch_is_bought(
    client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetImageToVideo", "toy-image", prompt="a red ball moving up")
    asked |= batch(255, 65280, 16711680)
    asked["request"]["inputs"]["image"] = ["batch", 0]
    asked["check"] = {"class_type": "WanDuetCheck", "inputs": {"request": ["request", 0], "runner": "all"}}
    for name in ("local", "model", "run", "seed", "receipt", "save"):
        del asked[name]
    text = client.run(asked).outputs["check"]["text"][0]
    assert "warning: image_url 3: 3 in a batch: one result of each" in text
    assert "impossible: image_url 3: 3 in a batch would be 3 purchases" in text
    del asked["check"]
    inputs = {**defaults["WanDuetRunFal"], "request": ["request", 0]}
    asked["run"] = {"class_type": "WanDuetRunFal", "inputs": inputs}
    asked["seed"] = {"class_type": "PreviewAny", "inputs": {"source": ["run", 2]}}
    with pytest.raises(HostError, match=r"image_url: asked for 3; 3 in a batch would be 3 purchases"):
        client.run(asked)


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


def test_a_list_of_videos_makes_one_of_each_in_every_node_that_takes_a_video(
    host: HeadlessComfyUI, client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    asked = graph(defaults, "WanDuetTextToVideo", "toy")
    asked["local"]["inputs"]["count"] = 2

    def node(name: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": name, "inputs": {**defaults.get(name, {}), **inputs}}

    videos = ["run", 0]
    asked |= {
        "again": node("WanDuetVideoToVideo", **{**SMALL, "video": videos, "strength": 0.5}),
        "run again": node("WanDuetRunLocal", request=["again", 0], model=["model", 0]),
        "its receipt": node("PreviewAny", source=["run again", 4]),
        "encoded": node("WanDuetSaveEncoded", images=videos, filename_prefix="encoded"),
        "smooth": node(
            "WanDuetSaveInterpolated", video=videos, filename_prefix="smooth", interpolator="flow"
        ),
        "kept": node("WanDuetKeepVideo", video=videos, filename_prefix="kept"),
    }
    outputs = client.run(asked).outputs
    for name in ("run again", "encoded", "smooth", "kept"):
        assert len(set(files(outputs[name]))) == 2, name
    receipts = [json.loads(text) for text in outputs["its receipt"]["text"]]
    assert len({receipt["inputs"]["video_url"]["sha256"] for receipt in receipts}) == 2
    assert len({receipt["frames_sha256"] for receipt in receipts}) == 2
