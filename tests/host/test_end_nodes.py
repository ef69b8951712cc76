"""Nodes that end a graph keep a file in the output folder, and a lazy switch still runs one branch only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.output import sidecar
from wan_duet.pipelines.video.probe import probe

WORKFLOWS = Path(__file__).parents[2] / "workflows" / "api"
SETTINGS = {"video_quality": "high", "video_write_mode": "balanced"}
BETWEEN = {
    "num_interpolated_frames": 1,
    "adjust_fps_for_interpolation": True,
    "frames_per_second": 16.0,
    "interpolator": "flow",
}


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def two_runners(prefix: str) -> dict[str, Any]:
    """Two runners behind a lazy switch, and nothing that ends the graph."""
    shipped = json.loads((WORKFLOWS / "Text to Video (one request).json").read_text(encoding="utf-8"))
    (request,) = (item for item in shipped.values() if item["class_type"] == "WanDuetTextToVideo")
    request["inputs"] |= {"num_inference_steps": 2, "interpolator_model": "none"}
    run = {
        "request": ["request", 0],
        "model": ["model", 0],
        "filename_prefix": prefix,
        "return_images": False,
    }
    return {
        "request": request,
        "model": node("WanDuetLoadModel", model="toy", precision="auto"),
        "first": node("WanDuetRunLocal", save=False, **run),
        "second": node("WanDuetRunLocal", save=False, **{**run, "filename_prefix": f"{prefix}-second"}),
        "switch": node("ComfySwitchNode", switch=False, on_false=["first", 0], on_true=["second", 0]),
    }


def ended(kind: str, prefix: str) -> dict[str, Any]:
    """The graph with one node of `kind` at its end."""
    graph, name = two_runners(prefix), {"filename_prefix": prefix}
    if kind == "WanDuetKeepVideo":
        graph["end"] = node(kind, video=["switch", 0], **name)
    elif kind == "WanDuetSaveEncoded":
        graph["end"] = node(kind, images=["switch", 0], frames_per_second=16.0, **SETTINGS, **name)
    elif kind == "WanDuetSaveInterpolated":
        graph["end"] = node(kind, video=["switch", 0], **BETWEEN, **SETTINGS, **name)
    else:
        graph["empty"] = node("WanDuetEmptyLatent", model=["model", 0], width=64, height=64, num_frames=5)
        settings = {**BETWEEN, **SETTINGS, "interpolator": "none", "reverse": False}
        graph["end"] = node(kind, latent=["empty", 0], model=["model", 0], **settings, **name)
        graph["other end"] = node("WanDuetKeepVideo", video=["switch", 0], filename_prefix=f"{prefix}-kept")
    return graph


@pytest.mark.parametrize(
    ("kind", "frames"),
    [
        ("WanDuetKeepVideo", 17),
        ("WanDuetSaveEncoded", 17),
        ("WanDuetSaveInterpolated", 33),
        ("WanDuetSaveRendered", 5),
    ],
)
def test_an_end_node_keeps_its_file_and_one_branch_of_a_switch_runs(
    host: HeadlessComfyUI, client: ComfyClient, kind: str, frames: int
) -> None:
    graph, ran = ended(kind, f"ends/{kind}"), set[str]()
    job = client.run(graph, on_progress=lambda progress: ran.add(progress.node_id))
    assert "first" in ran
    assert "second" not in ran
    (file,) = (file for file in job.files if file.node_id == "end")
    assert file.folder == "output"
    assert probe(host.output / file.subfolder / file.name).frames == frames


def test_a_runner_alone_is_no_graph_and_its_tooltip_names_what_ends_one(client: ComfyClient) -> None:
    with pytest.raises(HostError, match="no outputs"):
        client.run(two_runners("ends/none"))
    for old, new in {
        "WanDuetRunLocal": "Wan Duet Keep Video",
        "WanDuetRenderVideo": "Wan Duet Save Rendered Video",
        "WanDuetEncodeVideo": "Wan Duet Save Encoded Video",
        "WanDuetInterpolate": "Wan Duet Save Interpolated Video",
    }.items():
        (info,) = client.get(f"/object_info/{old}").values()
        assert new in info["input"]["required"]["save"][1]["tooltip"]


def test_what_lies_in_the_output_folder_is_kept_as_it_is_and_else_copied_with_its_receipt(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    for save, prefix in ((True, "ends/saved"), (False, "ends/copied")):
        graph = ended("WanDuetKeepVideo", prefix)
        graph["first"]["inputs"]["save"] = save
        client.run(graph)
        (video,) = host.output.glob(f"{prefix}_*.mp4")
        receipt = json.loads(sidecar(video).read_text(encoding="utf-8"))
        assert probe(video).frames == receipt["plan"]["frames_out"]
    assert sorted(file.suffix for file in (host.output / "ends").glob("saved*")) == [".json", ".mp4"]
