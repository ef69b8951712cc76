"""Speech to video in a real ComfyUI: the shipped workflow, and media and poses from sockets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_workflows import add, id_of, text_of, video_of, workflow

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

NAME = "Speech to Video"


def test_the_shipped_workflow_speaks_as_long_as_its_sound(client: ComfyClient, tmp_path: Path) -> None:
    graph = workflow(NAME, num_inference_steps=2, duration=3.0)
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    job = client.run(graph)
    facts = video_of("SaveVideo", client, job, graph, tmp_path)
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, 48, 16)
    assert facts.audio is not None
    assert abs(facts.audio.duration_s - 3.0) < 1 / 16
    written = json.loads(text_of(job, receipt))
    assert written["clips"] == {"count": 2, "frames": 40}
    assert written["request"]["audio_url"].startswith("sha256:")
    assert "speech-to-video can run (local on toy-speech)" in job.outputs[id_of(graph, "WanDuetCheck")]["text"][0]


def test_a_pose_video_and_a_limit_reach_the_run(client: ComfyClient, tmp_path: Path) -> None:
    graph = workflow(NAME, num_inference_steps=2, duration=9.0, max_seconds=1.0)
    images = add(graph, "EmptyImage", width=48, height=48, batch_size=5, color=255)
    pose = add(graph, "CreateVideo", images=[images, 0], fps=16.0)
    graph[id_of(graph, "WanDuetRunLocal")]["inputs"]["pose_video"] = [pose, 0]
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    job = client.run(graph)
    assert video_of("SaveVideo", client, job, graph, tmp_path).frames == 16
    assert "pose_video" in json.loads(text_of(job, receipt))["inputs"]


def test_a_model_that_cannot_speak_is_refused_before_anything_is_loaded(
    host: HeadlessComfyUI, client: ComfyClient
) -> None:
    before = host.log().count("loading")
    with pytest.raises(HostError, match="it cannot do speech-to-video"):
        client.run(workflow(NAME, model="toy"))
    assert host.log().count("loading") == before


def test_a_file_outside_the_input_folder_is_no_sound(client: ComfyClient) -> None:
    graph = workflow(NAME, audio_url="/etc/hostname")
    del graph[id_of(graph, "WanDuetSpeechToVideo")]["inputs"]["audio"]
    with pytest.raises(HostError, match="audio_url: /etc/hostname is no file of ComfyUI's input folder"):
        client.run(graph)
