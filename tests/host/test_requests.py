"""Every kind of request on the host: from its node into the check, and refused by a runner that cannot."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from wan_duet.nodes.tasks import REQUEST_NODES, RequestNode
from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.request import RUNNERS

TEXTS = {
    "image_url": "a.png",
    "video_url": "a.mp4",
    "audio_url": "a.wav",
    "start_image_url": "a.png",
    "video_urls": "a.mp4\nb.mp4",
}
LORA = {"path": "some/lora", "transformer": "high"}


@pytest.fixture(scope="module")
def settings(host: HeadlessComfyUI) -> dict[str, dict[str, Any]]:
    """What every node has set when it is new, {node id: {input: default}}."""
    nodes = {node: info["input"] for node, info in host.client.get("/object_info").items()}
    return {
        node: {name: item[1]["default"] for name, item in group.get("required", {}).items() if has(item)}
        for node, group in nodes.items()
        if node.startswith("WanDuet")
    }


def has(item: Any) -> bool:
    return len(item) > 1 and "default" in item[1]


class Graph:
    """A graph that ends in the check."""

    def __init__(self, settings: dict[str, dict[str, Any]], node: str, **changed: object) -> None:
        self.settings = settings
        prompt = {"prompt": "a ball"} if "prompt" in settings[node] else {}
        self.nodes = {"request": {"class_type": node, "inputs": self.new(node, **prompt, **changed)}}
        self.last = "request"

    def new(self, node: str, **changed: object) -> dict[str, Any]:
        return {**self.settings[node], **changed}

    def add(self, name: str, node: str, **inputs: object) -> Graph:
        self.nodes[name] = {"class_type": node, "inputs": inputs}
        return self

    def lora(self, **changed: object) -> Graph:
        inputs = self.new("WanDuetRequestLora", **{**LORA, **changed, "request": [self.last, 0]})
        self.last = f"lora {len(self.nodes)}"
        return self.add(self.last, "WanDuetRequestLora", **inputs)

    def check(self, client: ComfyClient, runner: str = "local") -> str:
        self.add("check", "WanDuetCheck", request=[self.last, 0], runner=runner)
        return str(client.run(self.nodes).outputs["check"]["text"][0])


def texts(node: RequestNode) -> dict[str, str]:
    return {name: text for name, text in TEXTS.items() if name in node.fields}


@pytest.mark.parametrize("node", REQUEST_NODES, ids=lambda node: node.task)
def test_a_new_request_is_checked_by_every_runner(
    client: ComfyClient, settings: dict[str, dict[str, Any]], node: RequestNode
) -> None:
    report = Graph(settings, node.node_id, **texts(node)).check(client, "all")
    assert report.split("\n", 1)[0].split() == list(RUNNERS)
    assert len(re.findall(r"^\S+ can(not)? run \(", report, re.MULTILINE)) == len(RUNNERS)


@pytest.mark.parametrize("runner", RUNNERS)
def test_one_runner_is_asked_alone(
    client: ComfyClient, settings: dict[str, dict[str, Any]], runner: str
) -> None:
    report = Graph(settings, "WanDuetTextToVideo").check(client, runner)
    assert re.match(rf"text-to-video can(not)? run \({runner}\)", report)


def test_an_image_comes_from_a_socket(client: ComfyClient, settings: dict[str, dict[str, Any]]) -> None:
    pixel = hashlib.sha256(b"image(1, 16, 32, 3)" + bytes(16 * 32 * 3 * 4)).hexdigest()
    graph = Graph(settings, "WanDuetImageToVideo", image=["image", 0])
    report = graph.add("image", "EmptyImage", width=32, height=16, batch_size=1, color=0).check(client, "fal")
    assert report.startswith("image-to-video can")
    graph.nodes["request"]["inputs"]["end_image"] = ["image", 0]
    graph.add("shown", "PreviewAny", source=["request", 0])
    job = client.run(graph.nodes)
    assert job.outputs["shown"]["text"][0].count(f"sha256:{pixel}") == 2


def test_video_and_audio_come_from_sockets(client: ComfyClient, settings: dict[str, dict[str, Any]]) -> None:
    graph = Graph(settings, "WanDuetVideoToVideo", video=["video", 0])
    graph.add("image", "EmptyImage", width=32, height=16, batch_size=2, color=0)
    graph.add("video", "CreateVideo", images=["image", 0], fps=16.0)
    assert graph.check(client).startswith("video-to-video can")
    graph = Graph(settings, "WanDuetSpeechToVideo", audio=["audio", 0], image_url="a.png")
    graph.add("audio", "EmptyAudio", duration=0.1, sample_rate=8000, channels=1)
    assert graph.check(client).startswith("speech-to-video can")


def test_a_medium_given_both_ways_is_refused_by_name(
    client: ComfyClient, settings: dict[str, dict[str, Any]]
) -> None:
    graph = Graph(settings, "WanDuetImageToVideo", image=["image", 0], image_url="a.png")
    graph.add("image", "EmptyImage", width=32, height=16, batch_size=1, color=0)
    with pytest.raises(HostError, match="image_url: set as text and from a socket; use one of the two"):
        graph.check(client)


def test_a_medium_given_neither_way_is_refused_by_name(
    client: ComfyClient, settings: dict[str, dict[str, Any]]
) -> None:
    with pytest.raises(HostError, match=r"image_url: missing; give .* or connect image"):
        Graph(settings, "WanDuetImageToVideo").check(client)


@pytest.mark.parametrize(
    ("node", "kind", "experts"),
    [
        ("WanDuetTextToVideo", "text-to-video-lora", "low"),
        ("WanDuetImageToVideo", "image-to-video-lora", "high"),
        ("WanDuetTextToImage", "text-to-image-lora", "both"),
        ("WanDuetLegacyTextToVideo", "legacy-text-to-video-lora", "both"),
        ("WanDuetWan21TextToVideo", "wan21-text-to-video", "both"),
    ],
)
def test_every_kind_that_takes_loras_gets_them(
    client: ComfyClient, settings: dict[str, dict[str, Any]], node: str, kind: str, experts: str
) -> None:
    changed = {"image_url": "a.png"} if node == "WanDuetImageToVideo" else {}
    graph = Graph(settings, node, **changed).lora(transformer=experts).lora(path="b", transformer=experts)
    graph.add("shown", "PreviewAny", source=[graph.last, 0])
    assert graph.check(client, "fal").startswith(f"{kind} can")
    shown = client.run(graph.nodes).outputs["shown"]["text"][0]
    assert "path='some/lora'" in shown
    assert "path='b'" in shown


@pytest.mark.parametrize("node", ["WanDuetSmallTextToVideo", "WanDuetTurboTextToVideo"])
def test_a_lora_for_a_kind_without_is_refused_by_name(
    client: ComfyClient, settings: dict[str, dict[str, Any]], node: str
) -> None:
    with pytest.raises(HostError, match=r"loras: there is no such field"):
        Graph(settings, node).lora().check(client)


def test_a_choice_of_expert_is_refused_where_there_is_none(
    client: ComfyClient, settings: dict[str, dict[str, Any]]
) -> None:
    with pytest.raises(HostError, match="transformer: legacy-text-to-video has no choice of the expert"):
        Graph(settings, "WanDuetLegacyTextToVideo").lora(transformer="high").check(client)


def test_a_kind_that_the_model_cannot_do_stops_before_anything_is_loaded(
    host: HeadlessComfyUI, client: ComfyClient, settings: dict[str, dict[str, Any]]
) -> None:
    before = host.log().count("loading")
    graph = Graph(settings, "WanDuetSpeechToVideo", image=["image", 0], audio=["audio", 0])
    graph.add("image", "EmptyImage", width=32, height=16, batch_size=1, color=0)
    graph.add("audio", "EmptyAudio", duration=1.0, sample_rate=8000, channels=1)
    graph.add("model", "WanDuetLoadModel", **settings["WanDuetLoadModel"])
    run = {**settings["WanDuetRunLocal"], "request": ["request", 0], "model": ["model", 0]}
    graph.add("run", "WanDuetRunLocal", **run).add("save", "PreviewAny", source=["run", 4])
    with pytest.raises(HostError, match="it cannot do speech-to-video"):
        client.run(graph.nodes)
    assert host.log().count("loading") == before
