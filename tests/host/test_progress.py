"""What the browser hears while a node works."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from wan_duet.pipelines.headless.client import ComfyClient, WorkflowProgress
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.read import read_frames

WORKFLOW = Path(__file__).parents[2] / "workflows" / "api" / "Text to Video (building blocks).json"
STEPS = 5
PREVIEW, TEXT = 1, 3  # BinaryEventTypes of ComfyUI's protocol.py


def workflow(seed: int) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    (sampler,) = (node for node in graph.values() if node["class_type"] == "WanDuetTwoStageSampler")
    sampler["inputs"].update(steps=STEPS, seed=seed)
    return graph


def test_every_stage_fills_its_bar(client: ComfyClient) -> None:
    heard: dict[str, list[WorkflowProgress]] = {}
    graph = workflow(seed=1)
    client.run(graph, on_progress=lambda progress: heard.setdefault(progress.node_id, []).append(progress))
    ends = {graph[name]["class_type"]: (list_[-1].done, list_[-1].total) for name, list_ in heard.items()}
    assert ends["WanDuetTwoStageSampler"] == (STEPS, STEPS)
    assert ends["WanDuetDecode"] == ends["WanDuetEncodeVideo"] == (17, 17)


def test_terminal_gets_a_line_per_stage(host: HeadlessComfyUI, client: ComfyClient) -> None:
    client.run(workflow(seed=2))
    for line in (f"sampling: {STEPS} steps", "decoding: 17 frames", "video: 17 frames"):
        assert line in host.log()


@pytest.mark.parametrize(("method", "count"), [("latent2rgb", STEPS), ("none", 0)])
def test_sampler_shows_each_step_the_way_the_user_chose(
    host: HeadlessComfyUI, method: str, count: int
) -> None:
    pictures = asyncio.run(previews(host.url, workflow(seed=3 + count), method))
    assert len(pictures) == count
    if pictures:
        assert pictures[0].width / pictures[0].height == pytest.approx(112 / 64, rel=0.01)
        assert pictures[0].tobytes() != pictures[-1].tobytes()


def test_previews_have_the_colours_of_the_video(host: HeadlessComfyUI, client: ComfyClient) -> None:
    graph = workflow(seed=11)
    (saver,) = (node for node in graph.values() if node["class_type"] == "SaveVideo")
    saver["inputs"]["filename_prefix"] = "previewed"
    last = asyncio.run(previews(host.url, graph, "latent2rgb"))[-1]
    (video,) = host.output.glob("previewed_*")
    first_frame = Image.fromarray(next(iter(read_frames(video))))
    seen, drawn = (
        np.asarray(image.convert("RGB").resize((14, 8), Image.Resampling.BOX), float)
        for image in (last, first_frame)
    )
    assert np.abs(seen - drawn).mean() < 16  # of 255


def test_check_shows_its_answer_in_the_node(host: HeadlessComfyUI, client: ComfyClient) -> None:
    graph = {
        "request": {"class_type": "WanDuetTextToVideo", "inputs": defaults(host) | {"prompt": "a ball"}},
        "check": {"class_type": "WanDuetCheck", "inputs": {"request": ["request", 0], "runner": "local"}},
    }
    shown = client.run(graph).outputs["check"]
    assert shown["text"][0].startswith("text-to-video can run")
    assert shown["wan_duet_check"]


def defaults(host: HeadlessComfyUI) -> dict[str, Any]:
    (info,) = host.client.get("/object_info/WanDuetTextToVideo").values()
    return {name: options["default"] for name, (_, options) in info["input"]["required"].items()}


async def previews(url: str, graph: dict[str, Any], method: str) -> list[Image.Image]:
    """The pictures that a browser would show while `graph` runs."""
    shown = await binary_messages(url, graph, PREVIEW, preview_method=method)
    return [Image.open(io.BytesIO(message[4:])) for message in shown]  # after the picture's format


async def binary_messages(url: str, graph: dict[str, Any], kind: int, **extra: str) -> list[bytes]:
    """What a browser gets of this kind while `graph` runs."""
    messages = await messages_of(url, graph, **extra)
    return [
        message[4:]
        for message in messages
        if isinstance(message, bytes) and struct.unpack(">I", message[:4]) == (kind,)
    ]


async def messages_of(url: str, graph: dict[str, Any], **extra: str) -> list[bytes | dict[str, Any]]:
    """What a browser gets while `graph` runs: binary messages, and events as JSON."""
    client_id = uuid.uuid4().hex
    found: list[bytes | dict[str, Any]] = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws?clientId={client_id}") as socket,
    ):
        body = {"prompt": graph, "client_id": client_id, "extra_data": extra}
        async with session.post(f"{url}/prompt", json=body) as answer:
            assert answer.status == 200
        async for message in socket:
            binary = message.type is aiohttp.WSMsgType.BINARY
            found.append(message.data if binary else json.loads(message.data))
            if not binary and found[-1]["type"] in ("execution_success", "execution_error"):
                return found
    return found
