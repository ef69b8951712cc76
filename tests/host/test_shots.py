"""One video of several shots, from nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.probe import probe

SMALL = {
    "num_frames": 5,
    "num_inference_steps": 2,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
    "seed": 7,
}


def graph(defaults: dict[str, dict[str, Any]], **whole: Any) -> dict[str, Any]:
    """A graph with three shots: the second goes on from the first, the third begins with a picture."""

    def node(name: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": name, "inputs": {**defaults.get(name, {}), **inputs}}

    model, image_model = ["model", 0], ["image_model", 0]
    return {
        "model": node("WanDuetLoadModel", model="toy"),
        "image_model": node("WanDuetLoadModel", model="toy-image"),
        "picture": node("LoadImage", image="example.png"),
        "whole": node("WanDuetShots", **{**SMALL, **whole}),
        "first": node("WanDuetShot", request=["whole", 0], prompt="a red ball"),
        "second": node("WanDuetShot", request=["first", 0], prompt="it moves up", join="continue"),
        "third": node(
            *("WanDuetShot",),
            request=["second", 0],
            prompt="it turns",
            join="dissolve",
            join_frames=2,
            seconds=0.5,
            image=["picture", 0],
        ),
        "check": node(
            "WanDuetCheck", request=["third", 0], runner="local", model=model, image_model=image_model
        ),
        "run": node("WanDuetRunLocal", request=["third", 0], model=model, image_model=image_model, save=True),
        "receipt": node("PreviewAny", source=["run", 4]),
    }


def test_shots_are_checked_drawn_as_a_line_and_made_one_video(
    host: HeadlessComfyUI, client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    outputs = client.run(graph(defaults)).outputs
    (file,) = outputs["run"]["images"]
    receipt = json.loads(outputs["receipt"]["text"][0])
    assert probe(host.output / file["subfolder"] / file["filename"]).frames == receipt["frames"] == 5 + 4 + 7
    assert receipt["joins"] == ["cut", "continue", "dissolve 2"]
    assert [shot["seed"] for shot in receipt["shots"]] == [7, 8, 9]
    report = outputs["check"]["text"][0]
    assert report.startswith("shots can run")
    assert "shots[2].seconds" in report
    assert outputs["check"]["wan_duet_picture"] == outputs["third"]["wan_duet_picture"]
    assert "16 frames, 1.0 s" in outputs["third"]["wan_duet_picture"][0]


def test_a_storyboard_needs_no_further_node(client: ComfyClient, defaults: dict[str, dict[str, Any]]) -> None:
    asked = graph(defaults, storyboard="5f: a red ball | 5f continue: it moves up")
    for name in ("first", "second", "third", "picture"):
        del asked[name]
    for name in ("check", "run"):
        asked[name]["inputs"]["request"] = ["whole", 0]
    receipt = json.loads(client.run(asked).outputs["receipt"]["text"][0])
    assert receipt["joins"] == ["cut", "continue"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"first": {"join": "continue"}}, "there is no shot before the first"),
        ({"second": {"image": ["picture", 0]}}, "begins with the frame before"),
        ({"run": {"image_model": None}, "check": {"image_model": None}}, "image-to-video"),
    ],
)
def test_a_wrong_shot_is_named(
    client: ComfyClient, defaults: dict[str, dict[str, Any]], changed: dict[str, Any], words: str
) -> None:
    asked = graph(defaults)
    for node, inputs in changed.items():
        asked[node]["inputs"] |= inputs
        asked[node]["inputs"] = {name: it for name, it in asked[node]["inputs"].items() if it is not None}
    with pytest.raises(HostError, match=words):
        client.run(asked)
