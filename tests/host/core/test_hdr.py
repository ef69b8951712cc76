"""Every node that reads a video says what it does with HDR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

from ...video.hdr_clips import RED, SIZE, WHITE, write_hdr
from ...video.hdr_reference import of_sdr

WRITTEN = {"video_quality": "maximum", "video_write_mode": "fast", "save": True}
NEW_FRAMES = {
    "interpolator": "flow",
    "num_interpolated_frames": 1,
    "adjust_fps_for_interpolation": True,
    "frames_per_second": 16.0,
}


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


@pytest.mark.parametrize(
    ("kind", "socket", "settings"),
    [
        ("WanDuetEncodeVideo", "images", {**WRITTEN, "frames_per_second": 16.0, "container": "mkv"}),
        ("WanDuetInterpolate", "video", {**WRITTEN, **NEW_FRAMES}),
        ("WanDuetContactSheet", "video", {"columns": 2, "width": 64, "labels": ""}),
        (
            "WanDuetVideoCondition",
            "video",
            {"width": 112, "height": 64, "num_frames": 1, "resample_fps": False, "frames_per_second": 16.0},
        ),
    ],
)
def test_a_node_that_reads_hdr_says_that_it_is_tone_mapped(
    core: HeadlessComfyUI, core_client: ComfyClient, kind: str, socket: str, settings: dict[str, object]
) -> None:
    write_hdr(core.input / "hdr.mp4", [of_sdr(WHITE), of_sdr(RED)])
    if "save" in settings:
        settings = {**settings, "filename_prefix": kind}
    if kind == "WanDuetVideoCondition":
        settings = {**settings, "model": ["model", 0]}
    graph = {
        "model": node("WanDuetLoadModel", model="toy", precision="fp32"),
        "video": node("LoadVideo", file="hdr.mp4"),
        "read": node(kind, **{socket: ["video", 0]}, **settings),
        "end": node("PreviewAny", source=["read", 1 if kind == "WanDuetInterpolate" else 0]),
    }
    found = core_client.run(graph).outputs["read"]["wan_duet_findings"]
    assert ["HDR (HLG) is tone-mapped" in one["reason"] for one in found] == [True]
    assert found[0]["status"] == "warning"
    if kind == "WanDuetEncodeVideo":
        (made,) = core.output.glob(f"{kind}_*")
        frame = next(read_frames(made))
        shown = frame[SIZE // 2, SIZE // 2 :: SIZE].astype(int)
        assert np.abs(shown - (WHITE, RED)).max() <= 3


def test_encode_video_keeps_hdr_where_that_is_asked(core: HeadlessComfyUI, core_client: ComfyClient) -> None:
    write_hdr(core.input / "hdr.mp4", [of_sdr(WHITE), of_sdr(RED)], "PQ")
    settings = {**WRITTEN, "frames_per_second": 16.0, "container": "mp4", "filename_prefix": "kept"}
    graph = {
        "video": node("LoadVideo", file="hdr.mp4"),
        "kept": node("WanDuetSaveEncoded", images=["video", 0], hdr="keep", **settings),
    }
    del graph["kept"]["inputs"]["save"]
    assert "wan_duet_findings" not in core_client.run(graph).outputs["kept"]
    (made,) = core.output.glob("kept_*")
    facts = probe(made)
    assert (facts.codec, facts.pix_fmt, facts.colour.hdr) == ("hevc", "yuv420p10le", "PQ")
