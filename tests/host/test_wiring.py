"""Two stages that are wired wrongly: each slip is refused, put right, or told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient

Graph = dict[str, dict[str, Any]]
Picture = Callable[[Graph], bytes]
GUIDANCE = {"seed": 5, "guidance_scale": 1.0}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sigmas(steps: int = 4, shift: float = 5.0, boundary: float = -1.0) -> dict[str, Any]:
    return node(
        "WanDuetSigmas", model=["model", 0], steps=steps, shift=shift, solver="euler", boundary=boundary
    )


def stage(expert: str, latent: str, levels: list[Any], **changed: Any) -> dict[str, Any]:
    inputs = {
        "model": ["model", 0],
        "stage": expert,
        "positive": ["text", 0],
        "negative": ["text", 1],
        "latent": [latent, 0],
        "sigmas": levels,
        **GUIDANCE,
        "solver": "euler",
        "add_noise": "auto",
    }
    return node("WanDuetStageSampler", **{**inputs, **changed})


@pytest.fixture
def graph() -> Graph:
    """Two stages of four steps on the embedded model, wired rightly."""
    size = {"width": 64, "height": 64, "num_frames": 1}
    return {
        "model": node("WanDuetLoadModel", model="toy", precision="auto"),
        "text": node("WanDuetEncodePrompt", model=["model", 0], prompt="a red ball", negative_prompt=""),
        "empty": node("WanDuetEmptyLatent", model=["model", 0], **size),
        "sigmas": sigmas(),
        "high": stage("high", "empty", ["sigmas", 0]),
        "low": stage("low", "high", ["sigmas", 1]),
        "images": node("WanDuetDecode", model=["model", 0], latent=["low", 0]),
        "saved": node("SaveImage", images=["images", 0], filename_prefix="wired"),
    }


@pytest.fixture
def picture(client: ComfyClient, tmp_path: Path) -> Picture:
    def pixels(graph: Graph) -> bytes:
        (file,) = client.run(graph).files
        return Image.open(client.download(file, tmp_path / "picture.png")).tobytes()

    return pixels


def told(client: ComfyClient, graph: Graph, name: str) -> list[str]:
    """What the node says in the history."""
    findings = client.run(graph).outputs.get(name, {}).get("wan_duet_findings", [])
    return [f"{finding['field']}: {finding['reason']}" for finding in findings]


def two_stage(graph: Graph, **changed: Any) -> Graph:
    settings = {"seed": 5, "steps": 4, "guidance_scale": 1.0, "guidance_scale_2": 1.0, "shift": 5.0}
    whole = {key: graph["high"]["inputs"][key] for key in ("model", "positive", "negative", "latent")}
    more = {"solver": "euler", "boundary": -1.0, "strength": 1.0}
    return {**graph, "low": node("WanDuetTwoStageSampler", **whole, **settings, **more, **changed)}


def test_auto_adds_noise_in_the_first_stage_alone(
    client: ComfyClient, picture: Picture, graph: Graph
) -> None:
    wired = picture(graph)
    assert wired == picture(two_stage(graph))
    graph["high"]["inputs"]["add_noise"] = True  # as older graphs have it
    graph["low"]["inputs"]["add_noise"] = False
    assert wired == picture(graph)
    assert told(client, graph, "high") == told(client, graph, "low") == []


def test_a_checkbox_left_on_in_the_second_stage_adds_none_and_tells_it(
    client: ComfyClient, picture: Picture, graph: Graph
) -> None:
    wired = picture(graph)
    graph["low"]["inputs"]["add_noise"] = True
    assert picture(graph) == wired
    (said,) = told(client, graph, "low")
    assert said.startswith("add_noise: was on, but the latent has noise already")


def other_steps(graph: Graph) -> None:
    graph["other"] = sigmas(steps=8, shift=1.0)
    graph["low"]["inputs"]["sigmas"] = ["other", 1]


def exchanged_experts(graph: Graph) -> None:
    graph["high"]["inputs"]["stage"], graph["low"]["inputs"]["stage"] = "low", "high"


def exchanged_order(graph: Graph) -> None:
    graph["high"] = stage("low", "empty", ["sigmas", 1])
    graph["low"] = stage("high", "high", ["sigmas", 0], add_noise=False)


def no_low_step(graph: Graph) -> None:
    graph["sigmas"] = sigmas(boundary=0.0)


def no_high_step(graph: Graph) -> None:
    graph["sigmas"] = sigmas(boundary=1.0)
    graph["sigmas"]["inputs"]["solver"] = "unipc"


def no_noise(graph: Graph) -> None:
    graph["high"]["inputs"]["add_noise"] = "off"


def noise_twice(graph: Graph) -> None:
    graph["low"]["inputs"]["add_noise"] = "on"


def through_core(graph: Graph) -> None:
    blend = node("LatentMultiply", samples=["high", 0], multiplier=1.5)
    graph["changed"] = blend
    graph["low"]["inputs"]["latent"] = ["changed", 0]


def whole_after_high(graph: Graph) -> None:
    graph["low"] = two_stage(graph)["low"]
    graph["low"]["inputs"]["latent"] = ["high", 0]


@pytest.mark.parametrize(
    ("slip", "why"),
    [
        (other_steps, r"sigmas: start at 0\.75, but the latent has noise level 0\.8333"),
        (exchanged_experts, "stage: low, but all steps of these sigmas .* choose high"),
        (
            exchanged_order,
            r"add_noise: off, but the latent has no noise and the sigmas start at noise level 1",
        ),
        (no_low_step, "sigmas: none of the 4 steps uses the low-noise expert"),
        (no_high_step, "sigmas: none of the 4 steps uses the high-noise expert"),
        (no_noise, "add_noise: off, but the latent is empty"),
        (noise_twice, r"add_noise: on, but the latent has noise level 0\.8333 already"),
        (through_core, "add_noise: auto, but a node has changed the latent"),
        (whole_after_high, r"sigmas: start at 1, but the latent has noise level 0\.8333"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_slip_is_an_error(client: ComfyClient, graph: Graph, slip: Any, why: str) -> None:
    slip(graph)
    with pytest.raises(HostError, match=why):
        client.run(graph)


def test_a_stage_that_is_connected_later_is_an_error_too(client: ComfyClient, graph: Graph) -> None:
    no_low_step(graph)
    alone = {name: graph[name] for name in ("model", "text", "empty", "sigmas", "high")}
    images = node("WanDuetDecode", model=["model", 0], latent=["high", 0])
    client.run({**alone, "images": images, "saved": graph["saved"]})  # the sigmas are kept from now on
    with pytest.raises(HostError, match=r"none: this stage has no steps|none of the 4 steps"):
        client.run(graph)


@pytest.mark.parametrize("decoder", ["WanDuetDecode", "WanDuetSaveRendered"])
def test_noise_in_what_is_decoded_is_told(client: ComfyClient, graph: Graph, decoder: str) -> None:
    graph["images"]["inputs"]["latent"] = ["high", 0]
    if decoder == "WanDuetSaveRendered":
        inputs = {"latent": ["high", 0], "model": ["model", 0], "frames_per_second": 16.0, "reverse": False}
        more = {"interpolator": "none", "num_interpolated_frames": 0, "adjust_fps_for_interpolation": True}
        quality = {"video_quality": "high", "video_write_mode": "balanced", "filename_prefix": "noisy"}
        graph["images"] = node(decoder, **inputs, **more, **quality)
        del graph["saved"]
    (said,) = told(client, graph, "images")
    assert said.startswith("latent: has noise level 0.8333 still")
    if decoder == "WanDuetDecode":
        graph["images"]["inputs"]["latent"] = ["low", 0]
        assert told(client, graph, "images") == []


def test_strength_0_leaves_a_latent_with_its_noise(client: ComfyClient, graph: Graph) -> None:
    graph = two_stage(graph)
    graph["low"]["inputs"] |= {"latent": ["high", 0], "strength": 0.0}
    (said,) = told(client, graph, "images")
    assert said.startswith("latent: has noise level 0.8333 still")
