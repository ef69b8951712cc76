"""What is patched onto a MODEL or hooked onto a conditioning acts under our sampler as under ComfyUI's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import patches
import pytest
from graphs import Bench, distance, node

from wan_duet.pipelines.headless.client import ComfyClient

TABLE = os.environ.get("WAN_DUET_PATCH_TABLE")


def info(client: ComfyClient, name: str) -> Any:
    return client.get(f"/object_info/{name}")[name]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ModelSamplingSD3", {}),
        ("LoraLoaderModelOnly", {}),
        ("CFGZeroStar", {}),
        ("CFGNorm", {}),
        ("SkipLayerGuidanceDiT", {}),
        ("EasyCache", {}),
        ("LazyCache", {}),
        ("WanContextWindowsManual", {"freenoise": False}),
        ("WanContextWindowsManual", {"freenoise": True}),
    ],
)
def test_a_patch_acts_and_acts_alike(
    bench: Bench, core_client: ComfyClient, name: str, settings: dict[str, Any]
) -> None:
    row = patches.row(bench, name, info(core_client, name), **settings)
    assert not row.problem
    assert row.apart is not None
    assert row.moved is not None
    assert row.apart <= patches.SAME
    assert row.moved > 1e-3


def hooked(hooks: str) -> dict[str, Any]:
    """The positive conditioning with the hooks of another node."""
    return node(
        "ConditioningSetProperties",
        cond_NEW=["positive", 0],
        hooks=[hooks, 0],
        strength=1.0,
        set_cond_area="default",
    )


def test_a_hooked_lora_follows_its_keyframes(bench: Bench) -> None:
    graph = patches.base() | {
        "hook": node("CreateHookLoraModelOnly", lora_name="wan.safetensors", strength_model=1.0),
        "early": node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0),
        "late": node("CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=["early", 0]),
        "timed": node("SetHookKeyframes", hooks=["hook", 0], hook_kf=["late", 0]),
        "whole": hooked("hook"),
        "half": hooked("timed"),
    }
    experts = {expert: [f"core {expert}", 0] for expert in ("high", "low")}
    for name, positive in (("plain", "positive"), ("whole", "whole"), ("half", "half")):
        graph |= patches.both(name, experts, patches.SPLIT, positive=[positive, 0])
    wanted = [f"{side} {name}" for name in ("plain", "whole", "half") for side in ("ours", "core")]
    plain, _, whole, core_whole, half, core_half = bench.values(graph, *wanted)
    assert distance(whole, core_whole) <= patches.SAME
    assert distance(half, core_half) <= patches.SAME
    assert distance(whole, plain) > distance(half, plain) > 1e-3


def test_scaled_fp8_experts_act_alike(bench: Bench) -> None:
    graph = patches.base()
    for expert in patches.EXPERTS:
        name = f"{expert} fp8.safetensors"
        graph[f"fp8 {expert}"] = node("UNETLoader", unet_name=name, weight_dtype="default")
    graph |= patches.both("fp8", {expert: [f"fp8 {expert}", 0] for expert in patches.EXPERTS}, patches.SPLIT)
    graph |= patches.both("plain", {name: [f"core {name}", 0] for name in patches.EXPERTS}, patches.SPLIT)
    ours, core, plain = bench.values(graph, "ours fp8", "core fp8", "ours plain")
    assert distance(ours, core) <= patches.SAME
    assert 1e-4 < distance(ours, plain) < 0.5


@pytest.mark.skipif(TABLE is None, reason="takes minutes: set WAN_DUET_PATCH_TABLE to the file to write")
def test_every_patch_of_this_host_acts_alike(bench: Bench, core_client: ComfyClient) -> None:
    host = core_client.get("/system_stats")["system"]["comfyui_version"]
    rows = patches.write_table(Path(str(TABLE)), host, patches.table(bench, core_client.get("/object_info")))
    assert not [row.name for row in rows if (row.apart or 0) > patches.SAME]
