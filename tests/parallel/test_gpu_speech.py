"""A speech video of two clips on two ranks: both decode the frames that the second clip starts from."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from ranks_in_threads import in_layout

from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.local_worker import LocalWorker
from wan_duet.pipelines.interpolation.found_interpolators import Interpolators
from wan_duet.pipelines.loading.wan_model import load_model
from wan_duet.pipelines.parallel.gpu_world import GpuRanks
from wan_duet.pipelines.plan.gpu_layout import GpuLayout
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.request.report import silent
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.weights.folder import read_component
from wan_duet.pipelines.weights.lora.find import LoraSources


class ThreadWorld:
    """Threads of one process in place of the processes of `GpuWorld`."""

    devices = ("cpu", "cpu")

    def __init__(self, ranks: GpuRanks) -> None:
        self.ranks = ranks

    def arrange(self, layout: GpuLayout) -> GpuRanks:
        assert layout == self.ranks.layout
        return self.ranks


def test_two_clips_of_speech_are_those_of_one_device(tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderKLWan(base_dim=2, z_dim=16, num_res_blocks=1).save_pretrained(tmp_path / "vae")
    model = replace(load_model("toy-speech"), vae=read_component(tmp_path / "vae"))
    sound, picture = tmp_path / "voice.wav", tmp_path / "who.png"
    with wave.open(str(sound), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes((9000 * np.sin(np.arange(42000) / 8)).astype("<i2").tobytes())  # 2.6 s
    pixels = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    picture.write_bytes(image_bytes(pixels, "png", {}))
    request = parse(
        "speech-to-video",
        {
            "prompt": "a person speaks",
            "image_url": str(picture),
            "audio_url": str(sound),
            "num_frames": 40,
            "num_inference_steps": 2,
            "seed": 3,
        },
    )
    memory, sources = DeviceMemory("cpu"), LoraSources(embedded={})
    alone = LocalWorker(model, memory, Silent(), silent, sources, Interpolators())

    def made(ranks: GpuRanks) -> list[dict]:
        worker = replace(alone, world=ThreadWorld(ranks))
        if ranks.everyone.rank:
            worker.take_part(request)
            return []
        return worker.run(request, tmp_path / "two.mp4").receipt["step_fingerprints"]

    first, second = in_layout(GpuLayout(True, 1), made)
    wanted = alone.run(request, tmp_path / "one.mp4").receipt["step_fingerprints"]
    assert (len(first), second) == (4, [])  # two steps of each clip
    for found, expected in zip(first, wanted, strict=True):
        assert found["sketch"] == pytest.approx(expected["sketch"], rel=1e-4, abs=1e-4)
