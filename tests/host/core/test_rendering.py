"""Latents and images become video files that core's own nodes can work with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.media.probe import probe
from wan_duet.pipelines.media.read import read_frames

SETTINGS: dict[str, object] = {
    "frames_per_second": 24.0,
    "reverse": False,
    "interpolator": "none",
    "num_interpolated_frames": 0,
    "adjust_fps_for_interpolation": True,
    "video_quality": "high",
    "video_write_mode": "fast",
    "container": "mkv",
    "save": True,
}


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def graph(**settings: object) -> dict[str, Any]:
    """The toy's latents of nothing, rendered; and the sound of a tone."""
    return {
        "model": node("WanDuetLoadModel", model="toy", precision="fp32"),
        "vae": node("VAELoader", vae_name="toy.safetensors"),
        "latent": node("WanDuetEmptyLatent", model=["model", 0], width=112, height=64, num_frames=9),
        "sound": node("EmptyAudio", duration=4.0, sample_rate=44100, channels=2),
        "video": node("WanDuetRenderVideo", latent=["latent", 0], **{**SETTINGS, **settings}),
        "parts": node("GetVideoComponents", video=["video", 0]),
        "rate": node("PreviewAny", source=["parts", 2]),
    }


def made(core: HeadlessComfyUI, name: str) -> Path:
    (path,) = core.output.glob(f"{name}_*")
    return path


def test_a_latent_becomes_a_video_with_its_graph_and_sound(
    core: HeadlessComfyUI, core_client: ComfyClient
) -> None:
    settings = {"model": ["model", 0], "audio": ["sound", 0], "filename_prefix": "rendered"}
    core_client.run(graph(**settings, num_interpolated_frames=1, interpolator="flow"))
    facts = probe(made(core, "rendered"))
    assert (facts.width, facts.height, facts.frames, facts.fps) == (112, 64, 17, Fraction(48))
    assert "WanDuetRenderVideo" in facts.tags["prompt"]
    assert facts.audio is not None
    assert facts.audio.duration_s == pytest.approx(17 / 48, abs=1e-3)


def test_the_vae_of_core_gives_the_same_video_as_ours(
    core: HeadlessComfyUI, core_client: ComfyClient
) -> None:
    core_client.run(graph(model=["model", 0], filename_prefix="by ours"))
    core_client.run(graph(vae=["vae", 0], filename_prefix="by core"))
    pairs = list(zip(*(read_frames(made(core, name)) for name in ("by ours", "by core")), strict=True))
    assert len(pairs) == 9
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs) <= 1


@pytest.mark.parametrize(
    ("sources", "found"),
    [({}, "nothing is connected"), ({"model": ["model", 0], "vae": ["vae", 0]}, "both are connected")],
)
def test_one_source_of_the_vae_is_needed(
    core_client: ComfyClient, sources: dict[str, object], found: str
) -> None:
    with pytest.raises(HostError, match=found):
        core_client.run(graph(**sources, filename_prefix="x"))


def test_a_latent_of_a_picture_is_refused_before_anything_is_written(
    core: HeadlessComfyUI, core_client: ComfyClient
) -> None:
    broken = graph(model=["model", 0], filename_prefix="broken")
    broken["picture"] = node("EmptyLatentImage", width=64, height=64, batch_size=1)
    broken["video"]["inputs"]["latent"] = ["picture", 0]
    with pytest.raises(HostError, match="one video"):
        core_client.run(broken)
    assert not list(core.output.glob("broken*"))


@pytest.mark.parametrize("container", ["mp4", "webm", "mkv"])
def test_core_reads_and_saves_what_we_encode(
    core: HeadlessComfyUI, core_client: ComfyClient, container: str
) -> None:
    prompt = {
        "images": node("EmptyImage", width=112, height=64, batch_size=5, color=0x3060A0),
        "sound": node("EmptyAudio", duration=4.0, sample_rate=44100, channels=2),
        "video": node(
            "WanDuetEncodeVideo",
            images=["images", 0],
            frames_per_second=16.0,
            video_quality="maximum",
            video_write_mode="fast",
            filename_prefix="x",
            save=False,
            container=container,
            audio=["sound", 0],
        ),
        "parts": node("GetVideoComponents", video=["video", 0]),
        "probe": node("ProbeSave", value=["parts", 0], name=f"{container}.safetensors"),
        "save": node("SaveVideo", video=["video", 0], filename_prefix=container, format="auto", codec="auto"),
    }
    core_client.run(prompt)
    images = load_file(core.output / f"{container}.safetensors")["value"]
    assert images.shape == (5, 64, 112, 3)
    (saved,) = (file for file in core.output.glob(f"{container}_*") if file.suffix != ".safetensors")
    assert probe(saved).frames == 5
    assert probe(saved).audio is not None
    assert torch.isfinite(images).all()
