"""The shipped workflows and the blueprint in the real frontend, in a headless Chromium.

Needs node, $CHROMIUM (else /usr/bin/chromium) and playwright-core in $PLAYWRIGHT_CORE (else
~/browser/node_modules/playwright-core). WAN_DUET_SCREENSHOTS=write runs the workflows too and renews the
pictures in docs/images.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wan_duet.pipelines.headless.client import ComfyClient
from wan_duet.pipelines.headless.server import HeadlessComfyUI
from wan_duet.pipelines.video.audio import Audio
from wan_duet.pipelines.video.encode_video import encode_video
from wan_duet.pipelines.video.image import image_bytes
from wan_duet.pipelines.video.latent_file import LatentFile, write_latents

ROOT = Path(__file__).parents[2]
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
PLAYWRIGHT = Path(os.environ.get("PLAYWRIGHT_CORE", Path.home() / "browser/node_modules/playwright-core"))
NODE = shutil.which("node")
LACKING = [
    what
    for what, there in {
        "node": NODE,
        str(CHROMIUM): CHROMIUM.exists(),
        str(PLAYWRIGHT): PLAYWRIGHT.exists(),
    }.items()
    if not there
]
ONE_REQUEST, BLOCKS = "Text to Video (one request)", "Text to Video (building blocks)"
LORAS, IMAGE = "LoRA high, low and both", "Image to Video"
BLUEPRINT = "Text to Video (Wan Duet)"
HERE_OR_THERE = "Same request, here or there"
SPEECH = "Speech to Video"
LONG, SMOOTHER = "Render a long video", "Interpolate and re-encode"
PICTURES = {
    ONE_REQUEST: "one-request",
    BLOCKS: "building-blocks",
    LORAS: "loras",
    HERE_OR_THERE: "here-or-there",
    LONG: "long-video",
    SMOOTHER: "interpolate",
    IMAGE: "image-to-video",
    SPEECH: "speech",
}
REDRAWN = ["Text to Image", "Image to Image", "Video to Video"]
REMOTE = ["Text to Video on fal", "Text to Video on Novita"]  # which would need a key to be run for a picture
SAVED = ROOT / "tests" / "nodes" / "saved"  # with the version that had text-to-video only
SKIPPED = f"BROWSER TESTS SKIPPED: no {', '.join(LACKING)}"
if LACKING:
    warnings.warn(SKIPPED, stacklevel=1)  # pytest lists it at the end, unlike the reason of a skip
# Inputs that nodes gained after tests/nodes/saved was saved, at the value an older workflow gets.
APPENDED_SINCE = {
    "WanDuetRunLocal": {"acceleration": "exact", "allow_partial_loras": False, "max_seconds": 0},
    "WanDuetLoadModel": {
        "low_model": "none",
        "vae": "auto",
        "text_encoder": "auto",
        "residency": "auto",
        "image_encoder": "auto",
        "audio_encoder": "auto",
        "attention": "auto",
        "compile": False,
        "kernels": "auto",
        "gpus": "",
    },
    "WanDuetEncodeVideo": {
        "container": "mp4",
        "codec": "auto",
        "alpha": "flatten",
        "background": "white",
        "odd": "pad",
        "hdr": "tone-map",
    },
    "WanDuetEncodePrompt": {"prompt_syntax": "plain"},
    "WanDuetCheck": {"novita_model": "Wan 2.1"},
    "WanDuetTwoStageSampler": {
        "nag_scale": 1,
        "nag_scale_2": -1,
        "nag_tau": 2.5,
        "nag_alpha": 0.25,
        "cfg_zero_star": "off",
        "cfg_zero_steps": 0,
    },
}
RENEW = os.environ.get("WAN_DUET_SCREENSHOTS") == "write"
DYNAMIC = [(ONE_REQUEST, "WanDuetTextToVideo"), (BLOCKS, "WanDuetEncodePrompt")]
APPENDED = [(ONE_REQUEST, "WanDuetTextToVideo"), (BLOCKS, "WanDuetTwoStageSampler")]


@pytest.fixture(scope="module")
def opened(host: HeadlessComfyUI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """{name: what open_workflow.cjs saw}: all graphs in one browser, with the picture of each."""
    folder = tmp_path_factory.mktemp("pictures")
    jobs: dict[str, dict[str, Any]] = {}
    for name in [*PICTURES, *REDRAWN, *REMOTE]:
        jobs[name] = {"workflow": str(ROOT / "workflows" / f"{name}.json"), "run": RENEW and name in PICTURES}
    jobs[BLUEPRINT] = {"workflow": BLUEPRINT, "run": RENEW}
    for name, node in DYNAMIC:
        graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
        (asked,) = (item for item in graph["nodes"] if item["type"] == node)
        asked["widgets_values"][0] = "a {red|red} ball // not blue"
        jobs[f"{name} with choices"] = {"workflow": str(folder / f"{node}.json")}
        (folder / f"{node}.json").write_text(json.dumps(graph), encoding="utf-8")
    for name, node in APPENDED:
        jobs[f"{name} with {node}"] = {"workflow": str(SAVED / f"{name}.json"), "append": node}
    pictures = {**PICTURES, BLUEPRINT: "blueprint"}
    for number, (name, job) in enumerate(jobs.items()):
        renewed = RENEW and name in pictures
        place = (
            ROOT / "docs" / "images" / f"{pictures.get(name)}.png" if renewed else folder / f"{number}.png"
        )
        job["screenshot"] = str(place)
    found = in_browser("open_workflow.cjs", host.url, json.dumps(list(jobs.values())))
    return {
        name: {**seen, "picture": Path(job["screenshot"])}
        for (name, job), seen in zip(jobs.items(), found, strict=True)
    }


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("name", [*PICTURES, *REDRAWN, *REMOTE])
def test_opens_with_every_node_known_and_no_error(opened: dict[str, dict[str, Any]], name: str) -> None:
    seen = opened[name]
    assert seen["missing"] == []
    assert seen["errors"] == []
    assert seen["dialogs"] == []
    shipped = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    assert by_meaning(seen["prompt"]) == by_meaning(shipped)
    assert seen["picture"].stat().st_size > 50_000  # more than an empty canvas


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize(("name", "node"), APPENDED)
def test_a_saved_workflow_keeps_its_values_when_an_input_is_appended(
    opened: dict[str, dict[str, Any]], name: str, node: str
) -> None:
    seen = opened[f"{name} with {node}"]
    assert seen["errors"] == seen["missing"] == seen["dialogs"] == []
    then = json.loads((SAVED / "api" / f"{name}.json").read_text(encoding="utf-8"))
    (changed,) = (item for item in then.values() if item["class_type"] == node)
    changed["inputs"]["appended"] = 5
    for item in then.values():
        item["inputs"].update(APPENDED_SINCE.get(item["class_type"], {}))
    assert by_meaning(seen["prompt"]) == by_meaning(then)


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize(("name", "node"), DYNAMIC)
def test_the_page_resolves_choices_and_comments_in_prompts(
    opened: dict[str, dict[str, Any]], name: str, node: str
) -> None:
    (asked,) = (
        item for item in opened[f"{name} with choices"]["prompt"].values() if item["class_type"] == node
    )
    assert asked["inputs"]["prompt"].strip() == "a red ball"


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_the_blueprint_is_found_by_name_and_only_the_chosen_runner_works(
    opened: dict[str, dict[str, Any]], client: ComfyClient
) -> None:
    seen = opened[BLUEPRINT]
    assert seen["errors"] == seen["missing"] == seen["dialogs"] == []
    graph, names = seen["prompt"], {}
    for name, item in graph.items():
        names[item["_meta"]["title"]] = name
        if item["class_type"] == "WanDuetTextToVideo":
            item["inputs"]["num_inference_steps"] = 2
    assert [item["class_type"] for item in graph.values()].count("WanDuetRunLocal") == 2
    for second, runner in ((False, "First runner"), (True, "Second runner")):
        graph[names["Which runner"]]["inputs"]["switch"] = second
        ran: set[str] = set()
        job = client.run(graph, on_progress=lambda progress, ran=ran: ran.add(progress.node_id))
        assert ran & {names["First runner"], names["Second runner"]} == {names[runner]}
        assert names["Save Video"] in job.outputs


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_a_key_is_kept_in_the_settings_and_is_no_setting(host: HeadlessComfyUI, tmp_path: Path) -> None:
    key = "sk_Zm9yLXRoZS1icm93c2VyLW9ubHk"
    seen = in_browser("open_settings.cjs", host.url, "novita", key, str(tmp_path / "picture.png"))
    assert (seen["before"], seen["kept"], seen["forgotten"]) == ("no key", "set, from the file", "no key")
    assert seen["field"] == ""
    assert key not in json.dumps(seen)


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
def test_a_file_of_ours_dropped_on_the_canvas_brings_its_graph_back(
    host: HeadlessComfyUI, tmp_path: Path
) -> None:
    graph, prompt = (
        json.loads((ROOT / "workflows" / folder / f"{LONG}.json").read_text(encoding="utf-8"))
        for folder in (".", "api")
    )
    tags = {"workflow": json.dumps(graph), "prompt": json.dumps(prompt), "wan_duet": "{}"}
    picture = np.zeros((64, 112, 3), np.uint8)
    clip = {"width": 112, "height": 64, "fps": Fraction(16), "frame_count": 2, "tags": tags}
    sound = Audio(np.zeros((1, 8000), np.float32), 16000)
    for file, audio in {
        "silent.mp4": None,
        "loud.mp4": sound,
        "loud.webm": sound,
        "still.webp": None,
    }.items():
        encode_video(iter([picture, picture]), tmp_path / file, audio=audio, **clip)
    (tmp_path / "picture.png").write_bytes(image_bytes(picture, "png", tags))
    write_latents(tmp_path / "kept.latent", LatentFile(torch.zeros(1, 16, 1, 8, 14), tags=tags))
    files = sorted(tmp_path.iterdir())
    seen = in_browser("drop_files.cjs", host.url, *map(str, files))
    for file in files:
        assert by_meaning(seen[file.name].pop("prompt")) == by_meaning(prompt)
        assert seen[file.name] == {"missing": [], "dialogs": []}


def by_meaning(prompt: dict[str, Any]) -> dict[str, Any]:
    """Our nodes to the letter. Of ComfyUI's own, whose widgets change, links and what we set:
    a value that is "auto" wherever it is named says nothing.
    """
    return {
        name: item if item["class_type"].startswith("WanDuet") else {**item, "inputs": meant(item["inputs"])}
        for name, item in prompt.items()
    }


def meant(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if value != "auto"}


@pytest.mark.skipif(bool(LACKING), reason=SKIPPED)
@pytest.mark.parametrize("vue_nodes", [False, True], ids=["classic", "nodes-2"])
def test_a_run_with_live_previews_shows_its_video_afterwards(
    host: HeadlessComfyUI, tmp_path: Path, vue_nodes: bool
) -> None:
    graph = json.loads((ROOT / "workflows" / f"{ONE_REQUEST}.json").read_text(encoding="utf-8"))
    file = tmp_path / "workflow.json"
    # Another prompt each time: what is cached has no previews.
    file.write_text(json.dumps(graph).replace("a red ball", f"a {'green' if vue_nodes else 'blue'} ball"))
    seen = in_browser("show_video.cjs", host.url, str(file), str(vue_nodes).lower(), str(tmp_path / "a.png"))
    assert seen["previews"] > 0
    assert seen["left"] == []
    assert not seen["failed"]
    playing = [video for video in seen["videos"] if "type=temp" in video["src"]]
    assert playing, seen["videos"]
    assert all(video["readyState"] >= 2 and video["error"] is None for video in playing)


def in_browser(script: str, *arguments: str) -> Any:
    """What a script of this folder prints."""
    done = subprocess.run(
        [str(NODE), str(Path(__file__).with_name(script)), *arguments],
        env={**os.environ, "CHROMIUM": str(CHROMIUM), "PLAYWRIGHT_CORE": str(PLAYWRIGHT)},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
