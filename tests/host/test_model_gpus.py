"""Load Model's gpus in a real ComfyUI: Run Local computes in processes of its own, other nodes refuse."""

from __future__ import annotations

import json

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient

from .test_workflows import BLOCKS, PICTURE, add, text_of, workflow


def test_run_local_computes_one_picture_in_two_processes(client: ComfyClient) -> None:
    graph = workflow(PICTURE, gpus="cpu,cpu", num_inference_steps=2)
    receipt = add(graph, "PreviewAny", source=("WanDuetRunLocal", 4))
    (request,) = (item["inputs"]["request"] for item in graph.values() if "WanDuetRunLocal" in item.values())
    model = next(item["inputs"]["model"] for item in graph.values() if "WanDuetRunLocal" in item.values())
    report = add(graph, "WanDuetCheck", request=request, runner="local", model=model)
    done = client.run(graph)
    said = json.loads(text_of(done, receipt))["gpus"]
    assert (said["devices"], said["exactness"]) == (["cpu", "cpu"], "float")
    assert "on 2 devices (guidance pair), float" in text_of(done, report)


def test_a_sampler_refuses_several_devices(client: ComfyClient) -> None:
    with pytest.raises(HostError, match="gpus: given, and only Run Local computes on several devices"):
        client.run(workflow(BLOCKS, gpus="cpu,cpu"))


def test_what_is_no_list_of_devices_is_refused(client: ComfyClient) -> None:
    with pytest.raises(HostError, match=r"gpus: .*write 0,1 or cpu,cpu"):
        client.run(workflow(PICTURE, gpus="0,0"))
