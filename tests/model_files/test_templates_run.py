"""The files that each template of real weights selects go together: tiny ones of the same names.

tests/host/test_template_runs.py runs the templates themselves in a ComfyUI.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_names import write_real_names

from tools.template_list import TEMPLATES, Template
from wan_duet.pipelines.device.memory import DeviceMemory
from wan_duet.pipelines.generate.local_run import run
from wan_duet.pipelines.loading.wan_model import WanModel, load_model
from wan_duet.pipelines.progress import Silent
from wan_duet.pipelines.request import class_of, parse
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.probe import probe

RUNNING = [template for template in TEMPLATES if template.files is not None and not template.of_comfyui]
QUICK = {"prompt": "a red ball", "seed": 1, "num_frames": 17, "num_inference_steps": 2, "aspect_ratio": "1:1"}
SIDE, SECONDS = 64, 1


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_real_names(folder)
    return folder


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """{field: file} of a picture at either end, and of a silence of SECONDS."""
    folder = tmp_path_factory.mktemp("media")
    picture, sound = folder / "picture.png", folder / "sound.wav"
    picture.write_bytes(image_bytes(np.full((SIDE, SIDE, 3), (200, 60, 60), np.uint8), "png", {}))
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * 16000 * SECONDS))
    return {"image_url": str(picture), "end_image_url": str(picture), "audio_url": str(sound)}


def model_of(template: Template, models: Path) -> WanModel:
    """The model of a template, with its LoRAs, which draws SIDE x SIDE in place of every size."""
    assert template.files is not None
    slots = {slot: models / file.folder / file.name for slot, file in template.files.slots.items()}
    model = load_model(slots.pop("model"), low=slots.pop("low_model", None), **slots)
    for file, expert in zip(template.files.loras, ("high", "low"), strict=False):
        model = model.with_lora(models / file.folder / file.name, 1.0, expert)
    sizes = {tier: dict.fromkeys(shapes, (SIDE, SIDE)) for tier, shapes in model.family.sizes.items()}
    return replace(model, family=replace(model.family, sizes=sizes))


def request_of(template: Template, media: Mapping[str, str]) -> Any:
    """With fewer frames and steps, where the kind has such fields."""
    given = {f"{socket}_url": media[f"{socket}_url"] for socket in template.media}
    short = {"interpolator_model": "none", **QUICK}
    if "audio" in template.media:
        del short["num_frames"]  # of a clip: its length is that of the sound
    known = class_of(template.kind).model_fields
    return parse(template.kind, {**{name: value for name, value in short.items() if name in known}, **given})


@pytest.mark.parametrize("template", RUNNING, ids=lambda template: template.name)
def test_the_files_of_a_template_make_a_video(
    models: Path, media: Mapping[str, str], tmp_path: Path, template: Template
) -> None:
    model, request, out = model_of(template, models), request_of(template, media), tmp_path / "made.mp4"
    made = run(request, model, out=out, memory=DeviceMemory("cpu"), progress=Silent())
    assert template.files is not None
    assert model.family.name == template.files.family
    facts, written = probe(out), json.dumps(made.receipt["model"])
    assert (facts.width, facts.height) == (SIDE, SIDE)
    assert facts.frames == made.receipt["plan"]["frames_out"]
    assert [file.name for file in template.files.files if file.name not in written] == []
