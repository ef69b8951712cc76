"""Every shipped workflow through the clients that people use, not only through ours.

They lie in the virtual environment $COMFY_CLIENTS: comfy-cli, comfy-api-simplified and comfy-script.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.parse
import warnings
from pathlib import Path

import pytest

from wan_duet.pipelines.headless.server import HeadlessComfyUI

WORKFLOWS = Path(__file__).parents[2] / "workflows"
CLIENTS = os.environ.get("COMFY_CLIENTS")
SKIPPED = "CLIENT TESTS SKIPPED: COMFY_CLIENTS names no virtual environment with comfy-cli and the others"
if CLIENTS is None:
    warnings.warn(SKIPPED, stacklevel=1)  # pytest lists it at the end, unlike the reason of a skip
pytestmark = pytest.mark.skipif(CLIENTS is None, reason=SKIPPED)
FEW = {"num_inference_steps": 2, "steps": 2}  # what is drawn is looked at elsewhere
NEEDS_KEY = {"Text to Video on fal", "Text to Video on Novita"}


def toy_names() -> list[str]:
    """The workflows that need no weight files: they run on the embedded models, or at a provider."""
    return [file.stem for file in sorted((WORKFLOWS / "api").glob("*.json")) if not needs_weights(file)]


def needs_weights(file: Path) -> bool:
    nodes = json.loads(file.read_text(encoding="utf-8")).values()
    models = [item["inputs"]["model"] for item in nodes if item["class_type"] == "WanDuetLoadModel"]
    loaded_by_comfyui = any(item["class_type"] == "UNETLoader" for item in nodes)
    return loaded_by_comfyui or not all(model.startswith("toy") for model in models)


def quick(name: str, to: Path) -> Path:
    """The API form of a workflow with few steps, in a file."""
    graph = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for item in graph.values():
        item["inputs"].update({key: value for key, value in FEW.items() if key in item["inputs"]})
    file = to / "workflow.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    return file


def ran(command: list[str], to: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "HOME": str(to), "XDG_CONFIG_HOME": str(to)}  # clients keep settings there
    return subprocess.run(
        [str(Path(str(CLIENTS)) / "bin" / command[0]), *command[1:]],
        env=environ,
        cwd=to,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


@pytest.mark.parametrize("form", ["api", "ui"])
@pytest.mark.parametrize("name", toy_names())
def test_comfy_cli_runs_it(host: HeadlessComfyUI, tmp_path: Path, name: str, form: str) -> None:
    file = quick(name, tmp_path) if form == "api" else WORKFLOWS / f"{name}.json"
    at = urllib.parse.urlsplit(host.url)
    where = ["--host", str(at.hostname), "--port", str(at.port)]
    done = ran(["comfy", "--skip-prompt", "run", "--workflow", str(file), "--wait", *where], tmp_path)
    told = done.stdout + done.stderr
    if name in NEEDS_KEY:
        assert "key" in told.lower()
    else:
        assert done.returncode == 0, told


@pytest.mark.parametrize("name", [name for name in toy_names() if name not in NEEDS_KEY])
def test_comfy_api_simplified_runs_it(host: HeadlessComfyUI, tmp_path: Path, name: str) -> None:
    file = quick(name, tmp_path)
    saving = [
        item["_meta"]["title"]
        for item in json.loads(file.read_text(encoding="utf-8")).values()
        if item["class_type"].startswith("Save")
    ]
    script = (
        "import sys; from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper as Workflow;"
        "made = ComfyApiWrapper(sys.argv[1]).queue_and_wait_images(Workflow(sys.argv[2]), sys.argv[3]);"
        "print(*(len(content) for content in made.values()))"
    )
    done = ran(["python", "-c", script, host.url, str(file), saving[-1]], tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(int(size) > 500 for size in done.stdout.split())
    assert done.stdout.split()


@pytest.mark.parametrize("name", ["Text to Video (one request)", "Text to Image"])
def test_comfy_script_runs_what_it_makes_of_it(host: HeadlessComfyUI, tmp_path: Path, name: str) -> None:
    """Its script has every node that gives something which nobody uses as a comment: Save Video too."""
    file = quick(name, tmp_path)
    graph = json.loads(file.read_text(encoding="utf-8"))
    (saver,) = (item for item in graph.values() if item["class_type"].startswith("Save"))
    saver["inputs"]["filename_prefix"] = "scripted"
    file.write_text(json.dumps(graph), encoding="utf-8")
    made = ran(
        ["python", "-m", "comfy_script.transpile", str(file), "--api", f"{host.url}/", "--runtime"], tmp_path
    )
    assert made.returncode == 0, made.stderr
    script = made.stdout.replace("load()", f"load({host.url!r})").replace("# _ = ", "_ = ")
    (tmp_path / "scripted.py").write_text(script, encoding="utf-8")
    done = ran(["python", "scripted.py"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    while host.client.get("/prompt")["exec_info"]["queue_remaining"]:
        time.sleep(0.5)  # the script ends once the workflow is queued
    written = list(host.output.glob("scripted_*"))
    assert written, done.stdout + done.stderr
    for one in written:
        one.unlink()
