"""New frames on a real ComfyUI: for images and videos, drawn by us or by a model that core loaded."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_nets import pictures

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.audio import Audio
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.frame_stream import Frame
from wan_duet.pipelines.video.frames import to_uint8
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames

WORKFLOW = Path(__file__).parents[3] / "workflows" / "api" / "Text to Video (one request).json"
SETTINGS: dict[str, object] = {
    "interpolator": "rife",
    "num_interpolated_frames": 2,
    "adjust_fps_for_interpolation": True,
    "frames_per_second": 10.0,
    "video_quality": "maximum",
    "video_write_mode": "fast",
    "save": True,
}


@pytest.fixture(scope="module")
def clip(core: HeadlessComfyUI) -> list[Frame]:
    """Three frames, also as clip.mp4 with a sound among the inputs of ComfyUI."""
    first, second = (to_uint8(picture[0], low=0.0) for picture in pictures(64, 112))
    frames = [first, second, first]
    sound = Audio(np.zeros((1, 44100), np.float32), 44100)
    encode_video(
        iter(frames), core.input / "clip.mp4", width=112, height=64, fps=Fraction(10), frame_count=3,
        quality="maximum", audio=sound,
    )  # fmt: skip
    return frames


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(source: str, name: str, **settings: object) -> dict[str, Any]:
    """source: "images" or "video", what is connected; the result is written as `name`."""
    place = {"images": ["parts", 0], "video": ["load", 0]}[source]
    inputs = {**SETTINGS, "filename_prefix": name, source: place, **settings}
    made = {
        "load": node("LoadVideo", file="clip.mp4"),
        "parts": node("GetVideoComponents", video=["load", 0]),
        "core": node("FrameInterpolationModelLoader", model_name="rife.safetensors"),
        "more": node("WanDuetInterpolate", **inputs),
        "rate": node("PreviewAny", source=["more", 2]),
    }
    if source == "video":
        return {
            **made,
            "end": node(
                "SaveVideo", video=["more", 1], filename_prefix="video/x", format="auto", codec="auto"
            ),
        }
    return {
        **made,
        "end": node(
            "WanDuetEncodeVideo", images=["more", 0], frames_per_second=30.0, video_quality="high",
            video_write_mode="fast", container="mkv", filename_prefix=name, save=True,
        ),
        "show": node("PreviewAny", source=["end", 0]),
    }  # fmt: skip


def made(core: HeadlessComfyUI, name: str) -> Path:
    (path,) = core.output.glob(f"{name}_*")
    return path


def test_our_network_and_that_of_core_draw_the_same_frames(
    core: HeadlessComfyUI, core_client: ComfyClient, clip: list[Frame]
) -> None:
    core_client.run(graph("images", "ours"))
    core_client.run(graph("images", "cores", interpolator="none", interp_model=["core", 0]))
    ours, cores = (list(read_frames(made(core, name))) for name in ("ours", "cores"))
    assert len(ours) == len(cores) == 7
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(ours, cores, strict=True)) <= 1
    assert all(not np.array_equal(ours[0], frame) for frame in ours[1:3])


def test_a_video_keeps_its_sound_and_its_length(
    core: HeadlessComfyUI, core_client: ComfyClient, clip: list[Frame]
) -> None:
    job = core_client.run(graph("video", "smooth"))
    facts = probe(made(core, "smooth"))
    assert (facts.frames, facts.fps) == (7, Fraction(30))
    assert facts.audio is not None
    assert facts.audio.duration_s == pytest.approx(7 / 30, abs=0.03)
    assert "WanDuetInterpolate" in facts.tags["prompt"]
    assert job.outputs["rate"]["text"] == ["30.0"]


def test_nothing_to_add_passes_the_video_on(
    core: HeadlessComfyUI, core_client: ComfyClient, clip: list[Frame]
) -> None:
    job = core_client.run(graph("video", "untouched", num_interpolated_frames=0))
    assert not [*core.output.glob("untouched_*")]
    assert job.outputs["rate"]["text"] == ["10.0"]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"interpolator": "film"}, "film_net_fp16.safetensors"),
        ({"video": ["load", 0]}, "both are connected"),
    ],
)
def test_what_is_missing_is_named(
    core_client: ComfyClient, clip: list[Frame], settings: dict[str, object], found: str
) -> None:
    with pytest.raises(HostError, match=found):
        core_client.run(graph("images", "none", **settings))


@pytest.mark.parametrize(
    ("asked", "connected", "file"),
    [("rife", {}, "rife.safetensors"), ("film", {"interp_model": ["core", 0]}, "")],
)
def test_a_request_is_drawn_by_the_file_that_is_there_or_by_the_model_that_is_connected(
    core: HeadlessComfyUI, core_client: ComfyClient, asked: str, connected: dict[str, object], file: str
) -> None:
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    changes = {
        "WanDuetTextToVideo": {"interpolator_model": asked, "num_interpolated_frames": 2, "num_frames": 17},
        "WanDuetRunLocal": {"filename_prefix": f"asked {asked}", "save": True, **connected},
    }
    for step in workflow.values():
        step["inputs"].update(changes.get(step["class_type"], {}))
    workflow["core"] = node("FrameInterpolationModelLoader", model_name="rife.safetensors")
    core_client.run(workflow)
    facts = probe(next(video for video in core.output.glob(f"asked {asked}_*") if video.suffix == ".mp4"))
    assert facts.frames == 17 + 16 * 2
    used = json.loads(facts.tags["wan_duet"])["interpolator"]
    assert used["name"] == "rife"
    assert used["file"].startswith(file)
