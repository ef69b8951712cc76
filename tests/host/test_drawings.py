"""Every shipped workflow that needs no key draws what its prompt says, at the settings it is shipped with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from face_detector import see_face
from speech_drawing import follows

from tools.thumbnails import WORKFLOWS, result_frames
from wan_duet.pipelines.embedded.detector import Seen, look_at
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.video.audio import mono_at, read_audio
from wan_duet.pipelines.video.local_file import any_file

# What the last result shows: colour, motion, background. None where the prompt says nothing of it.
DRAWN: dict[str, tuple[str, str | None, str]] = {
    "Image to Image": ("blue", None, "white"),
    "Image to Video": ("blue", "left", "white"),
    "Image to Video (app)": ("green", "right", "white"),
    "Interpolate and re-encode": ("red", "right", "white"),
    "LoRA high, low and both": ("green", None, "navy"),
    "Our model, any sampler": ("red", "right", "white"),
    "Render a long video": ("red", None, "white"),
    "Same request, here or there": ("red", "right", "white"),
    "Several shots": ("red", None, "white"),  # most of its shots; each is looked at below
    "Text to Image": ("red", None, "white"),
    "Text to Video (building blocks)": ("red", "right", "white"),
    "Text to Video (one request)": ("red", "right", "white"),
    "Video to Video": ("green", "right", "white"),
}
ELSEWHERE = {
    "Any ComfyUI model, our request": "loads real weights with ComfyUI's own nodes",
    "Speech to Video": "shows a face, which is looked at below",
    "Text to Video on fal": "needs a key",
    "Text to Video on Novita": "needs a key",
}


def toy_workflows() -> set[str]:
    """Those that run on the embedded models, or at a provider."""
    found = set()
    for file in (WORKFLOWS / "api").glob("*.json"):
        graph = json.loads(file.read_text(encoding="utf-8"))
        models = [
            item["inputs"]["model"] for item in graph.values() if item["class_type"] == "WanDuetLoadModel"
        ]
        if all(str(model).startswith("toy") for model in models):
            found.add(file.stem)
    return found


def test_every_workflow_of_the_embedded_models_is_looked_at() -> None:
    assert toy_workflows() == {*DRAWN, *ELSEWHERE}


@pytest.mark.parametrize("name", DRAWN)
def test_a_shipped_workflow_draws_what_its_prompt_says(
    client: ComfyClient, tmp_path: Path, name: str
) -> None:
    graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    seen = look_at(np.stack(result_frames(client, graph, tmp_path)))
    colour, motion, background = DRAWN[name]
    assert (seen.colour, seen.background) == (colour, background)
    assert seen.shape is not None
    assert motion in (None, seen.motion)


def test_each_shot_of_the_storyboard_moves_as_it_says(client: ComfyClient, tmp_path: Path) -> None:
    """33 frames, 32 more that continue, and 27 beside the 6 that are mixed."""
    graph = json.loads((WORKFLOWS / "api" / "Several shots.json").read_text(encoding="utf-8"))
    frames = np.stack(result_frames(client, graph, tmp_path))
    assert len(frames) == 33 + 32 + 27
    seen = [look_at(part) for part in (frames[:33], frames[33:59], frames[65:])]
    assert [(one.colour, one.motion) for one in seen] == [("red", "left"), ("red", "up"), ("blue", "right")]


def test_the_mouth_of_the_speaker_follows_the_sound(client: ComfyClient, tmp_path: Path) -> None:
    graph = json.loads((WORKFLOWS / "api" / "Speech to Video.json").read_text(encoding="utf-8"))
    frames = np.stack(result_frames(client, graph, tmp_path))
    sound = mono_at(read_audio(any_file("toy/speech.wav", "audio_url")), 16_000)
    seen = see_face(frames)
    assert (seen.colour, seen.background) == ("orange", "navy")
    assert follows(frames, sound)["correlation"] > 0.6


def test_the_detector_sees_nothing_in_a_blank_clip() -> None:
    """What the tests above would have to fail on."""
    seen: Seen = look_at(np.full((17, 64, 64, 3), 250, np.uint8))
    assert (seen.colour, seen.shape) == (None, None)
