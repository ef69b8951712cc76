"""Our context windows are those of ComfyUI: with one network in both handlers, and in whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from graphs import Bench, Node, core_stage, distance, node, start

# 8 latent frames in windows of 4 that share 2: two or three at each step.
FRAMES, LENGTH, OVERLAP = 29, 4, 2
TEXT = {"positive": ["positive", 0], "negative": ["negative", 0]}
SIZE = {"width": 80, "height": 64}


def test_the_windows_of_one_network_give_one_result(told_by: Callable[[str], Any]) -> None:
    apart = told_by("context_windows.py")
    assert len(apart) == 4 * 4 * 3 * 2 + 2 * 4 + 3
    assert {name: value for name, value in apart.items() if value > 1e-5} == {}


def windowed(latent: list[object], given: Mapping[str, Any], **settings: Any) -> Node:
    """Our loop, with windows."""
    windows = {
        "frames": (FRAMES - 1) // 4 + 1, "length": LENGTH, "overlap": OVERLAP, "schedule": "standard_uniform",
        "stride": 1, "closed_loop": False, "fuse": "pyramid", "retain_first": False, "freenoise": False,
        **settings,
    }  # fmt: skip
    return node(
        "ProbeWindows", model=["model", 0], latent=latent, sigmas=["sigmas", 2], seed=5,
        windows=json.dumps(windows), guidance=json.dumps({"high": 3.5, "low": 4.0}), **given,
    )  # fmt: skip


def of_core(graph: dict[str, Node], latent: list[object], given: Mapping[str, Any], **settings: Any) -> None:
    """Add core's two stages with its own windows."""
    for stage, begins in (("high", latent), ("low", ["core first", 0])):
        graph[f"windows {stage}"] = node(
            "WanContextWindowsManual", model=[f"core {stage}", 0], context_length=4 * LENGTH - 3,
            context_overlap=4 * OVERLAP, context_schedule=settings.get("schedule", "standard_uniform"),
            context_stride=1, closed_loop=settings.get("closed_loop", False),
            fuse_method=settings.get("fuse", "pyramid"), freenoise=settings.get("freenoise", False),
            retain_first_frame=settings.get("retain_first", False), split_conds_to_windows=False,
        )  # fmt: skip
        made = core_stage(stage, begins)
        made["inputs"] |= {"model": [f"windows {stage}", 0], **given}
        graph["core first" if stage == "high" else "core"] = made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"freenoise": True, "fuse": "relative", "schedule": "standard_static"},
        {"schedule": "looped_uniform", "closed_loop": True, "fuse": "overlap-linear"},
    ],
)
def test_a_clip_from_text_equals_comfyuis(bench: Bench, settings: dict[str, Any]) -> None:
    graph = start()
    graph["latent"]["inputs"]["num_frames"] = FRAMES
    graph |= {"ours": windowed(["latent", 0], TEXT, **settings)}
    of_core(graph, ["latent", 0], TEXT, **settings)
    ours, core = bench.values(graph, "ours", "core")
    assert distance(ours, core) <= 1e-5


@pytest.mark.parametrize("settings", [{}, {"retain_first": True, "freenoise": True}])
@pytest.mark.parametrize("last", [False, True])
def test_a_clip_from_images_equals_comfyuis(bench: Bench, last: bool, settings: dict[str, Any]) -> None:
    kind, ends = ("WanFirstLastFrameToVideo", {"end_image": ["last", 0]}) if last else ("WanImageToVideo", {})
    graph = start() | {
        "first": node("EmptyImage", batch_size=1, color=0xD03020, **SIZE),
        "last": node("EmptyImage", batch_size=1, color=0x2040C0, **SIZE),
        "vae": node("VAELoader", vae_name="toy.safetensors"),
        "begin": node(
            kind, vae=["vae", 0], start_image=["first", 0], length=FRAMES, batch_size=1, **SIZE, **TEXT,
            **ends,
        ),
        "model": node("WanDuetLoadModel", model="tiny/wan image", precision="auto"),
        "core high": node("UNETLoader", unet_name="image high.safetensors", weight_dtype="default"),
        "core low": node("UNETLoader", unet_name="image low.safetensors", weight_dtype="default"),
    }  # fmt: skip
    given = {"positive": ["begin", 0], "negative": ["begin", 1]}
    graph["ours"] = windowed(["begin", 2], given, **settings)
    of_core(graph, ["begin", 2], given, **settings)
    ours, core = bench.values(graph, "ours", "core")
    assert distance(ours, core) <= 1e-5


@pytest.mark.parametrize("settings", [{}, {"freenoise": True, "schedule": "standard_static"}])
@pytest.mark.parametrize("image", [False, True])
def test_a_clip_of_the_5b_equals_comfyuis(bench: Bench, image: bool, settings: dict[str, Any]) -> None:
    """One expert. Its image is a latent frame without noise."""
    size = {"width": 96, "height": 64}
    begins = {"start_image": ["first", 0]} if image else {}
    graph = start() | {
        "first": node("EmptyImage", batch_size=1, color=0xD03020, **size),
        "like": node("VAELoader", vae_name="toy.safetensors"),
        "vae": node("ProbeSmallVae", like=["like", 0]),
        "latent": node(
            "Wan22ImageToVideoLatent", vae=["vae", 0], length=FRAMES, batch_size=1, **size, **begins
        ),
        "model": node("WanDuetLoadModel", model="tiny/wan 5b", precision="auto"),
        "core high": node("UNETLoader", unet_name="small.safetensors", weight_dtype="default"),
        "ours": windowed(["latent", 0], TEXT, **settings),
    }
    of_core(graph, ["latent", 0], TEXT, **settings)
    graph["core first"]["inputs"]["sigmas"] = ["sigmas", 2]
    for name in ("core", "windows low", "core low"):
        del graph[name]
    ours, core = bench.values(graph, "ours", "core first")
    assert distance(ours, core) <= 1e-5
