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


def both_of(loader: str, file: str) -> dict[str, Any]:
    """Our sampler and ComfyUI's on experts of other files, and ours on the plain ones."""
    graph, loaded = patches.base(), {}
    for expert in patches.EXPERTS:
        graph[f"other {expert}"] = node(loader, unet_name=f"{expert} {file}")
        if loader == "UNETLoader":
            graph[f"other {expert}"]["inputs"]["weight_dtype"] = "default"
        loaded[expert] = [f"other {expert}", 0]
    plain: dict[str, list[object]] = {name: [f"core {name}", 0] for name in patches.EXPERTS}
    return graph | patches.both("other", loaded, patches.SPLIT) | patches.both("plain", plain, patches.SPLIT)


def expect_alike(bench: Bench, loader: str, file: str) -> None:
    ours, core, plain = bench.values(both_of(loader, file), "ours other", "core other", "ours plain")
    assert distance(ours, core) <= patches.SAME
    assert 1e-4 < distance(ours, plain) < 0.5


def test_scaled_fp8_experts_act_alike(bench: Bench) -> None:
    expect_alike(bench, "UNETLoader", "fp8.safetensors")


def test_int8_experts_act_alike(bench: Bench, core_client: ComfyClient) -> None:
    if version(core_client) < (0, 33):
        pytest.skip("this ComfyUI reads no int8")
    expect_alike(bench, "UNETLoader", "int8.safetensors")


def test_gguf_experts_of_another_pack_act_alike(bench: Bench, core_client: ComfyClient) -> None:
    if "UnetLoaderGGUF" not in core_client.get("/object_info"):
        pytest.skip("no ComfyUI-GGUF in WAN_DUET_OTHER_PACKS")
    expect_alike(bench, "UnetLoaderGGUF", "q8.gguf")


def version(client: ComfyClient) -> tuple[int, ...]:
    text = client.get("/system_stats")["system"]["comfyui_version"]
    return tuple(int(part) for part in text.split(".")[:2])


@pytest.mark.skipif(TABLE is None, reason="takes minutes: set WAN_DUET_PATCH_TABLE to the file to write")
def test_every_patch_of_this_host_acts_alike(bench: Bench, core_client: ComfyClient) -> None:
    host, file = core_client.get("/system_stats")["system"]["comfyui_version"], Path(str(TABLE))
    nodes, known = core_client.get("/object_info"), patches.known_rows(file, host)
    patches.write_table(file, host, patches.table(bench, nodes, known))
    rows = patches.known_rows(file, host)
    assert rows.keys() >= patches.patch_nodes(nodes).keys()
    assert not [name for name, text in rows.items() if "DIFFERENT" in text]
