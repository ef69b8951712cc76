"""Every kind of finding is said by Check and by Run Local: in the node, and in the history of the API."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from finding_kinds import (
    FINDING_KINDS,
    LORA_FILES,
    REQUESTS,
    FindingKind,
    names_of,
    write_clip,
    write_loras,
    write_quantised,
)

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI

from .test_progress import messages_of

NODES = {
    "text-to-video": "WanDuetTextToVideo",
    "text-to-image": "WanDuetTextToImage",
    "video-to-video": "WanDuetVideoToVideo",
}
by_request = pytest.mark.parametrize("kinds", REQUESTS, ids=names_of)


@pytest.fixture(scope="module", autouse=True)
def given(models: Path, host: HeadlessComfyUI, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_quantised(models)
    write_clip(host.input)
    made = tmp_path_factory.mktemp("loras")
    write_loras(made)
    for name in LORA_FILES:
        shutil.copy(made / name, models / "loras" / name)


def _widget(value: Any, default: Any) -> Any:
    """The value as its widget has it: one that a provider decides by itself is on, off or its default."""
    return ("on" if value else "off") if default == "provider default" and isinstance(value, bool) else value


def graph(kind: FindingKind, defaults: dict[str, dict[str, Any]], **request: Any) -> dict[str, Any]:
    """A graph that checks the request of `kind`, runs it, and shows its receipt."""

    def node(name: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": name, "inputs": {**defaults.get(name, {}), **inputs}}

    loras = json.dumps(kind.loras)
    local = {
        name: json.dumps(value) if isinstance(value, list) else value for name, value in kind.local.items()
    }
    widgets = {
        name: _widget(value, defaults[NODES[kind.task]].get(name)) for name, value in kind.request.items()
    }
    return {
        "asked": node(NODES[kind.task], **{**widgets, **request}),
        "with_loras": node("WanDuetRequestLora", request=["asked", 0], loras=loras if kind.loras else ""),
        "request": node("WanDuetRequestLocal", request=["with_loras", 0], **local),
        "model": node("WanDuetLoadModel", **kind.model),
        "check": node("WanDuetCheck", request=["request", 0], runner="local", model=["model", 0]),
        "run": node("WanDuetRunLocal", request=["request", 0], model=["model", 0]),
        "receipt": {"class_type": "PreviewAny", "inputs": {"source": ["run", 4]}},
    }


def shown_on(url: str, asked: dict[str, Any], node: str) -> list[list[dict[str, Any]]]:
    """What the page is told to show on the node while the graph runs."""
    events = [one for one in asyncio.run(messages_of(url, asked)) if isinstance(one, dict)]
    told = [event["data"] for event in events if event["type"] == "wan_duet_findings"]
    return [data["wan_duet_findings"] for data in told if data["node"] == node]


def said(findings: list[dict[str, Any]], kind: FindingKind) -> int:
    return sum(one["field"] == kind.field and kind.says in one["reason"] for one in findings)


@by_request
def test_it_is_said_in_the_node_in_the_history_and_in_the_receipt(
    host: HeadlessComfyUI,
    client: ComfyClient,
    defaults: dict[str, dict[str, Any]],
    kinds: Sequence[FindingKind],
) -> None:
    asked = graph(kinds[0], defaults)
    del asked["check"]
    on_node = shown_on(host.url, asked, "run")[-1]
    outputs = client.run(asked).outputs  # of the cache, as a second run is
    receipt = json.loads(outputs["receipt"]["text"][0])
    for kind in kinds:
        for found in (on_node, outputs["run"]["wan_duet_findings"], receipt["findings"]):
            assert said(found, kind) == 1


@by_request
def test_the_check_node_says_it(
    client: ComfyClient, defaults: dict[str, dict[str, Any]], kinds: Sequence[FindingKind]
) -> None:
    asked = graph(kinds[0], defaults)
    for name in ("run", "receipt"):
        del asked[name]
    text = client.run(asked).outputs["check"]["text"][0]
    assert all(kind.says in text for kind in kinds)


def test_a_run_without_findings_clears_those_of_the_last_one(
    host: HeadlessComfyUI, defaults: dict[str, dict[str, Any]]
) -> None:
    kind = next(kind for kind in FINDING_KINDS if kind.name == "negative")
    assert said(shown_on(host.url, graph(kind, defaults, seed=11), "run")[-1], kind) == 1
    quiet = graph(kind, defaults, seed=12, guidance_scale=2.0)
    [shown] = shown_on(host.url, quiet, "run")
    assert said(shown, kind) == 0


def test_the_block_that_encodes_says_what_it_cuts_and_what_it_reads_as_words(client: ComfyClient) -> None:
    inputs = {"prompt": "ball " * 1320, "negative_prompt": "(red:1.4)"}
    encode = {"class_type": "WanDuetEncodePrompt", "inputs": {"model": ["model", 0], **inputs}}
    model = {"class_type": "WanDuetLoadModel", "inputs": {"model": "toy", "precision": "auto"}}
    shown = {"class_type": "PreviewAny", "inputs": {"source": ["text", 0]}}
    asked = {"model": model, "text": encode, "shown": shown}
    found = client.run(asked).outputs["text"]["wan_duet_findings"]
    assert [(one["field"], one["reason"].partition(":")[0]) for one in found] == [
        ("negative_prompt", "(red"),
        ("prompt", "too long"),
    ]
    assert found[1]["reason"].endswith("so the last 809 are cut")
    encode["inputs"]["prompt_syntax"] = "comfy"
    found = client.run(asked).outputs["text"]["wan_duet_findings"]
    assert [one["field"] for one in found] == ["prompt"]


@pytest.mark.parametrize("node", ["WanDuetTextToVideo", "WanDuetImageToVideo", "WanDuetEncodePrompt"])
def test_prompts_are_dynamic_and_their_tooltip_says_what_that_costs(host: HeadlessComfyUI, node: str) -> None:
    inputs = host.client.get(f"/object_info/{node}")[node]["input"]["required"]
    for name in ("prompt", "negative_prompt"):
        assert inputs[name][1]["dynamicPrompts"] is True
    assert "each queueing is another purchase" in inputs["prompt"][1]["tooltip"]


def test_exchanged_model_files_are_told_by_the_node_that_loads_them_and_by_check(
    client: ComfyClient, defaults: dict[str, dict[str, Any]]
) -> None:
    kind = next(kind for kind in FINDING_KINDS if kind.task == "text-to-video" and not kind.loras)
    asked = graph(kind, defaults)
    for name in ("run", "receipt"):
        del asked[name]
    files = {"model": "wan_low_noise.safetensors", "low_model": "wan_high_noise.safetensors"}
    asked["model"]["inputs"] |= {**files, "vae": "2.1.safetensors", "text_encoder": "umt5.safetensors"}
    outputs = client.run(asked).outputs
    reasons = [one["reason"] for one in outputs["model"]["wan_duet_findings"]]
    assert reasons == [
        "wan_low_noise.safetensors is used as the high-noise expert; its name says low",
        "wan_high_noise.safetensors is used as the low-noise expert; its name says high",
    ]
    assert all(reason in outputs["check"]["text"][0] for reason in reasons)
