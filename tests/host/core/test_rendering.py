"""Latents and images become video files that core's own nodes can work with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient, WorkflowResult
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.audio import Audio, read_audio
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read import read_frames, read_timed_frames

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
FINDINGS = "wan_duet_findings"
COLOUR = (0x30, 0x60, 0xA0)


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
def test_core_takes_apart_and_saves_what_we_encode(
    core: HeadlessComfyUI, core_client: ComfyClient, container: str
) -> None:
    prompt = {
        "images": node("EmptyImage", width=112, height=64, batch_size=5, color=int.from_bytes(COLOUR, "big")),
        "sound": node("EmptyAudio", duration=4.0, sample_rate=48000, channels=2),
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
        **taken_apart(container),
        "save": node("SaveVideo", video=["video", 0], filename_prefix=container, format="auto", codec="auto"),
    }
    job = core_client.run(prompt)
    expect_the_clip(core, job, container)
    (saved,) = (file for file in core.output.glob(f"{container}_*") if file.suffix != ".safetensors")
    facts = probe(saved)
    assert facts.frames == 5
    assert float(facts.fps) == pytest.approx(16, abs=0.05)  # WebM and MKV know whole milliseconds only
    assert facts.audio is not None
    assert "WanDuetEncodeVideo" in facts.tags["prompt"]


@pytest.mark.parametrize("part", [False, True])
def test_a_video_is_written_anew_with_its_rate_and_sound(
    core: HeadlessComfyUI, core_client: ComfyClient, part: bool
) -> None:
    """Such as one that came from a provider; also a part of it."""
    name, frames = f"anew {part}", [np.full((64, 112, 3), level, np.uint8) for level in (10, 90, 170, 250)]
    encode_video(
        iter(frames), core.input / "old.mp4", width=112, height=64, fps=Fraction(8), frame_count=4,
        quality="maximum", audio=Audio(np.zeros((2, 24000), np.float32), 48000),
    )  # fmt: skip
    prompt = {
        "old": node("LoadVideo", file="old.mp4"),
        "cut": node("Video Slice", video=["old", 0], start_time=0.25, duration=0.25, strict_duration=False),
        "video": node(
            "WanDuetEncodeVideo", images=["cut" if part else "old", 0], frames_per_second=24.0,
            video_quality="low", video_write_mode="fast", container="mkv", filename_prefix=name, save=True,
        ),
        "rate": node("GetVideoComponents", video=["video", 0]),
        "shown": node("PreviewAny", source=["rate", 2]),
    }  # fmt: skip
    job = core_client.run(prompt)
    assert job.outputs["shown"]["text"] == ["8.0"]
    found = list(read_frames(made(core, name)))
    wanted = frames[2:4] if part else frames
    assert [int(frame.mean()) for frame in found] == pytest.approx([f[0, 0, 0] for f in wanted], abs=3)
    assert probe(made(core, name)).audio is not None
    assert not list(core.temp.glob("wan_duet_*.mp4"))


def encoded(source: str, container: str, codec: str, **settings: object) -> dict[str, Any]:
    return node(
        "WanDuetEncodeVideo", images=[source, 0], frames_per_second=16.0, video_quality="high",
        video_write_mode="fast", container=container, codec=codec, filename_prefix=f"{codec} {container}",
        save=True, **settings,
    )  # fmt: skip


def test_named_codecs_odd_sizes_and_transparency(core: HeadlessComfyUI, core_client: ComfyClient) -> None:
    """The pictures are transparent, and their sides are odd."""
    outputs = {
        ("mp4", "h265"): ("hevc", (112, 64), {}),
        ("mp4", "av1"): ("av1", (110, 62), {"odd": "crop"}),
        ("mov", "prores"): ("prores", (112, 63), {"background": "#306090"}),
        ("mov", "prores-4444"): ("prores", (111, 63), {"alpha": "keep"}),
        ("gif", "gif"): ("gif", (111, 63), {}),
        ("webp", "webp"): ("webp", (111, 63), {"alpha": "keep"}),
    }
    prompt = {
        "colour": node("EmptyImage", width=111, height=63, batch_size=3, color=0xC00000),
        "mask": node("SolidMask", value=1.0, width=111, height=63),
        "clear": node("JoinImageWithAlpha", image=["colour", 0], alpha=["mask", 0]),
    }
    for (container, codec), (_, _, settings) in outputs.items():
        prompt[codec] = encoded("clear", container, codec, **settings)
        if container != "webp":
            prompt[f"{codec} shown"] = node("PreviewAny", source=[codec, 0])
    prompt["webp"]["class_type"] = "WanDuetSaveEncoded"
    del prompt["webp"]["inputs"]["save"]
    core_client.run(prompt)
    for (container, codec), (stored, size, _) in outputs.items():
        facts = probe(made(core, f"{codec} {container}"))
        assert (facts.codec, facts.width, facts.height) == (stored, *size)
    frame = next(read_frames(made(core, "prores mov")))
    assert np.abs(frame[30, 50].astype(int) - (0x30, 0x60, 0x90)).max() <= 4
    kept = next(read_timed_frames(made(core, "prores-4444 mov"), background=None)).frame()
    assert kept[30, 50, 3] == 0


def test_pictures_and_videos_become_numbered_pictures(
    core: HeadlessComfyUI, core_client: ComfyClient, tmp_path: Path
) -> None:
    """The pictures become EXR in linear light; the video, which has sound, becomes PNG."""
    blue = (np.full((62, 110, 3), COLOUR, np.uint8) for _ in range(3))
    sound = Audio(np.zeros((2, 9000), np.float32), 48000)
    clip = {"width": 110, "height": 62, "fps": Fraction(16), "frame_count": 3, "audio": sound}
    encode_video(blue, core.input / "blue.mp4", **clip)
    prompt = {
        "video": node("LoadVideo", file="blue.mp4"),
        "colour": node("EmptyImage", width=111, height=63, batch_size=2, color=0xC00000),
        "png": encoded("video", "png", "auto"),
        "exr": encoded("colour", "exr", "auto"),
    }
    for saved in ("png", "exr"):
        prompt[saved]["class_type"] = "WanDuetSaveEncoded"
        del prompt[saved]["inputs"]["save"]
    job = core_client.run(prompt)
    folder = made(core, "auto png")
    names = ["frame_00001.png", "frame_00002.png", "frame_00003.png"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert [(shown["filename"], shown["subfolder"]) for shown in job.outputs["png"]["images"]] == [
        (name, folder.name) for name in names
    ]
    assert "sound is left out" in str(job.outputs["png"][FINDINGS])
    with Image.open(folder / names[0]) as picture:
        assert "prompt" in picture.info
        assert np.abs(np.asarray(picture).astype(int) - COLOUR).max() <= 3
    first, second = sorted(made(core, "auto exr").iterdir())
    with av.open(str(second)) as exr:
        (frame,) = exr.decode(video=0)
        planes = frame.reformat(format="gbrpf32le").to_ndarray(format="gbrpf32le")
    assert (frame.width, frame.height) == (111, 63)
    assert planes.max() == pytest.approx(0.527, abs=0.01)  # 192 of 255 with the curve of sRGB
    assert first.name == "frame_00001.exr"


def test_a_codec_that_the_container_does_not_hold_is_named(core_client: ComfyClient) -> None:
    prompt = {
        "colour": node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "video": encoded("colour", "mp4", "prores"),
        "shown": node("PreviewAny", source=["video", 0]),
    }
    with pytest.raises(HostError, match=r"codec prores: a \.mp4 .*\.mov holds prores"):
        core_client.run(prompt)


@pytest.mark.parametrize("container", ["mp4", "webm", "mkv"])
def test_core_loads_what_we_wrote(core: HeadlessComfyUI, core_client: ComfyClient, container: str) -> None:
    name, frame = f"ours.{container}", np.full((64, 112, 3), COLOUR, np.uint8)
    encode_video(
        iter([frame] * 5), core.input / name, width=112, height=64, fps=Fraction(16), frame_count=5,
        quality="maximum", audio=Audio(np.zeros((2, 192000), np.float32), 48000),
    )  # fmt: skip
    job = core_client.run({"video": node("LoadVideo", file=name), **taken_apart(container)})
    expect_the_clip(core, job, container)


def test_core_loads_our_webp_as_images(core: HeadlessComfyUI, core_client: ComfyClient) -> None:
    greys = (0, 60, 120, 180, 240)  # like pictures in a row would become one that is shown longer
    frames = (np.full((64, 112, 3), grey, np.uint8) for grey in greys)
    clip = {"width": 112, "height": 64, "fps": Fraction(16), "frame_count": 5}
    encode_video(frames, core.input / "ours.webp", **clip)
    prompt = {
        "images": node("LoadImage", image="ours.webp"),
        "probe": node("ProbeSave", value=["images", 0], name="webp.safetensors"),
    }
    core_client.run(prompt)
    images = load_file(core.output / "webp.safetensors")["value"]
    assert images.mean((1, 2, 3)).mul(255).tolist() == pytest.approx(greys, abs=3)


def taken_apart(name: str) -> dict[str, Any]:
    """What core finds in the video of the node "video"."""
    return {
        "parts": node("GetVideoComponents", video=["video", 0]),
        "probe": node("ProbeSave", value=["parts", 0], name=f"{name}.safetensors"),
        "rate": node("PreviewAny", source=["parts", 2]),
        "sound of it": node("SaveAudio", audio=["parts", 1], filename_prefix=f"sound {name}"),
    }


def expect_the_clip(core: HeadlessComfyUI, job: WorkflowResult, name: str) -> None:
    images = load_file(core.output / f"{name}.safetensors")["value"]
    assert images.shape == (5, 64, 112, 3)
    assert torch.allclose(images * 255, torch.tensor(COLOUR).float(), atol=3)
    assert job.outputs["rate"]["text"] == ["16.0"]
    (file,) = core.output.glob(f"sound {name}_*")
    sound = read_audio(file)
    assert sound is not None
    assert sound.samples.shape[1] == pytest.approx(5 / 16 * 48000, abs=2048)  # AAC comes in packets
    file.unlink()
