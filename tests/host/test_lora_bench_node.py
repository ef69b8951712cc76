"""*LoRA Bench* in a real ComfyUI: a sheet, a grid and a table from one queueing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.probe import probe
from wan_duet.pipelines.video.read_image import read_image

Defaults = dict[str, dict[str, Any]]
SMALL = {
    "prompt": "a red ball moving left on a white background",
    "num_frames": 5,
    "num_inference_steps": 2,
    "aspect_ratio": "1:1",
    "interpolator_model": "none",
    "seed": 7,
}


def graph(defaults: Defaults, **asked: Any) -> dict[str, Any]:
    def node(name: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": name, "inputs": {**defaults.get(name, {}), **inputs}}

    chosen = {"loras": "toy/outlined", "strengths": "1", "experts": "low", **asked}
    links = {"request": ["request", 0], "model": ["model", 0]}
    return {
        "request": node("WanDuetTextToVideo", **SMALL),
        "model": node("WanDuetLoadModel", model="toy"),
        "bench": node("WanDuetLoraBench", **links, **chosen),
        "sheet": node("SaveImage", images=["bench", 0], filename_prefix="sheet"),
        "grid": node("SaveVideo", video=["bench", 1], filename_prefix="grid", format="auto", codec="auto"),
        "table": node("PreviewAny", source=["bench", 2]),
    }


def folder_of(host: HeadlessComfyUI, outputs: dict[str, Any]) -> Path:
    """Return the folder of the bench that a graph ran."""
    [sheet] = outputs["bench"]["images"]
    assert (sheet["filename"], sheet["type"]) == ("sheet.png", "output")
    return host.output / sheet["subfolder"]


def test_one_queueing_gives_sheet_grid_table_and_receipts_and_the_next_one_goes_on(
    host: HeadlessComfyUI, client: ComfyClient, defaults: Defaults
) -> None:
    outputs = client.run(graph(defaults)).outputs
    folder = folder_of(host, outputs)
    [table] = outputs["table"]["text"]
    head, none, outlined = (line.split() for line in table.splitlines())
    assert head[:5] == ["lora", "expert", "strength", "ssim", "motion"]
    assert {"colour_as_told", "ink"} <= set(head)
    assert (none[0], outlined[:3]) == ("none", ["toy/outlined", "low", "1.0"])
    [sheet], [grid] = outputs["sheet"]["images"], outputs["grid"]["images"]
    saved = read_image(host.output / sheet["subfolder"] / sheet["filename"])
    assert saved.equal(read_image(folder / "sheet.png"))
    assert probe(host.output / grid["subfolder"] / grid["filename"]).frames == 5
    cells = {"p1-s7-none", "p1-s7-outlined-low-1"}
    assert {file.stem for file in folder.glob("p1-*.json")} == cells
    receipt = json.loads((folder / "p1-s7-outlined-low-1.json").read_text(encoding="utf-8"))
    assert receipt["request"]["loras"][0]["transformer"] == "low"

    before = {name: (folder / f"{name}.mp4").stat().st_mtime_ns for name in cells}
    again = client.run(graph(defaults, strengths="1, 0.5")).outputs
    assert folder_of(host, again) == folder
    assert {name: (folder / f"{name}.mp4").stat().st_mtime_ns for name in cells} == before
    assert (folder / "p1-s7-outlined-low-0.5.mp4").is_file()
    told = {one["batch"]: one for one in client.get("/wan_duet/batches")["batches"]}
    bench = told[folder.relative_to(host.output).as_posix()]
    assert (bench["rows"], bench["done"], bench["is_over"], bench["is_running"]) == (3, 3, True, False)
    assert bench["seconds"] > 0
    other = graph(defaults, prompts="a blue ball")
    assert folder_of(host, client.run(other).outputs) != folder


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"loras": " \n"}, "loras: none is named; write one a line"),
        ({"loras": "toy/outlined\ntoy/outlined"}, "loras: two LoRAs or strengths are called outlined-low-1"),
        ({"loras": "gone.safetensors"}, "gone.safetensors not found in"),
        ({"strengths": "much"}, "strengths: 'much' is no list of numbers; write 0.5,1"),
        ({"experts": "middle"}, "experts: 'middle'; give one or more of high, low, both"),
    ],
)
def test_wrong_inputs_are_named(
    client: ComfyClient, defaults: Defaults, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(HostError) as told:
        client.run(graph(defaults, **asked))
    assert words in str(told.value)
