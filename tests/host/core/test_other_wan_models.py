"""Wan models that no request describes: ComfyUI's conditioning feeds our sampler, and it renders."""

from __future__ import annotations

from typing import Any

import patches
import pytest
from graphs import Bench, Node, distance, node

SIZE = {"width": 80, "height": 64}
SHAPE = {**SIZE, "length": 9, "batch_size": 1}
VIDEO = {"control_video": ["frames", 0]}
CONDITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "vace": ("WanVaceToVideo", {"strength": 0.8, "reference_image": ["image", 0], **VIDEO}),
    "fun control": ("WanFunControlToVideo", {"start_image": ["image", 0], **VIDEO}),
    "fun control 2.2": ("Wan22FunControlToVideo", {"ref_image": ["image", 0], **VIDEO}),
    "camera": ("WanCameraImageToVideo", {"start_image": ["image", 0], "camera_conditions": ["camera", 0]}),
    "animate": (
        "WanAnimateToVideo",
        {
            "reference_image": ["image", 0],
            "pose_video": ["frames", 0],
            "continue_motion_max_frames": 5,
            "video_frame_offset": 0,
        },
    ),
    "animate2": (
        "WanAnimate2ToVideo",
        {
            "reference_image": ["image", 0],
            "pose_video": ["frames", 0],
            "clip_vision_output": ["seen", 0],
            "video_frame_offset": 0,
            "pose_strength": 1.0,
            "pose_start_percent": 0.0,
            "pose_end_percent": 0.7,
            "reference_image_strength": 1.0,
        },
    ),
}


def graph_of(layout: str, split: int = patches.SPLIT) -> dict[str, Node]:
    kind, inputs = CONDITIONS[layout]
    text = {"positive": ["positive", 0], "negative": ["negative", 0]}
    graph = patches.base() | {
        "image": node("EmptyImage", batch_size=1, color=0xD03020, **SIZE),
        "frames": node("EmptyImage", batch_size=9, color=0x2040C0, **SIZE),
        "camera": node("WanCameraEmbedding", camera_pose="Zoom In", **SIZE, length=9),
        "vae": node("VAELoader", vae_name="toy.safetensors"),
        "sees": node("ProbeClipVision"),
        "seen": node("CLIPVisionEncode", clip_vision=["sees", 0], image=["image", 0], crop="none"),
        "core high": node("ProbeTinyModel", layout=layout, seed=1),
        "core low": node("ProbeTinyModel", layout=layout, seed=2),
        "conditions": node(kind, **text, vae=["vae", 0], **SHAPE, **inputs),
    }
    graph["latent"] = node("LatentMultiply", samples=["conditions", 2], multiplier=1.0)
    given = {"positive": ["conditions", 0], "negative": ["conditions", 1]}
    models = {expert: [f"core {expert}", 0] for expert in ("high", "low")}
    graph |= patches.both("given", models, split, **given)
    return graph | patches.both("plain", models, split)


@pytest.mark.parametrize("layout", CONDITIONS)
def test_comfyuis_conditioning_acts_and_acts_alike(bench: Bench, layout: str) -> None:
    if CONDITIONS[layout][0] not in bench.client.get("/object_info"):
        pytest.skip("this ComfyUI has no such node")
    graph = graph_of(layout, patches.split_of(bench, graph_of(layout), "plain"))
    graph["video"] = node(
        "WanDuetRenderVideo",
        latent=["ours given", 0],
        vae=["vae", 0],
        frames_per_second=16.0,
        reverse=False,
        interpolator="none",
        num_interpolated_frames=0,
        adjust_fps_for_interpolation=True,
        video_quality="high",
        video_write_mode="balanced",
        filename_prefix="other",
        save=True,
    )
    graph["saved"] = node(
        "SaveVideo", video=["video", 0], filename_prefix="other", format="auto", codec="auto"
    )
    ours, core, plain = bench.values(graph, "ours given", "core given", "ours plain")
    assert distance(ours, core) <= patches.SAME
    assert distance(ours, plain) > 1e-3
    assert list(bench.comfyui.output.glob("other*.mp4"))


def test_our_own_engine_refuses_these_keys_by_name(bench: Bench) -> None:
    from wan_duet.pipelines.errors import HostError

    graph = graph_of("vace") | {"model": node("WanDuetLoadModel", model="tiny/wan 4096", precision="auto")}
    graph["ours given"]["inputs"]["model"] = ["model", 0]
    with pytest.raises(HostError, match="positive: has vace_frames, vace_mask, vace_strength"):
        bench.values(graph, "ours given")
