"""Runs the demo: one prompt becomes one MP4, in a real ComfyUI if there is one, else in this process.

Both ways run the request of the same workflow. The demo then reads the file and compares it with the plan.
The last line on stdout is the path of the video.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import HostError, RequestError
from ..headless.client import OutputFile, WorkflowProgress, WorkflowResult
from ..headless.host import Host, examine, find_comfyui
from ..headless.server import HeadlessComfyUI
from ..plan import FAMILIES, make_plan
from ..progress import Progress
from ..request import WanRequest, check, t2v_request
from ..version import PACK
from ..video.output import reserved_output, write_sidecar
from ..video.probe import VideoFacts, probe, verify
from ..video.tags import RECEIPT
from .terminal import TerminalProgress, quiet_pipes, run_command

__all__ = ["main", "parser"]

WORKFLOW = PACK / "workflows" / "api" / "Text to Video (one request).json"
REQUEST_NODE, MODEL_NODE, SAVE_NODE = "WanDuetTextToVideo", "WanDuetLoadModel", "SaveVideo"
PROVIDER_DEFAULT = "provider default"  # the setting of a widget that leaves its field out of the request
OUT = "wan-duet-demo.mp4"

_Workflow = dict[str, Any]  # ComfyUI's API format: {node id: {"class_type": ..., "inputs": {...}}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the video. Returns 0 only if the file is as planned."""
    options = parser().parse_args(arguments)

    def make() -> int:
        print(_make(options.prompt, options.comfyui, options.output))
        return 0

    with quiet_pipes():
        return run_command(make, lambda error: print(f"error: {error}", file=sys.stderr))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options, which run.py has too."""
    made = argparse.ArgumentParser(
        prog="wan_duet.pipelines.cli.demo", description="Make a video from a prompt."
    )
    made.add_argument("--prompt", metavar="TEXT", help="what to show (default: the workflow's own prompt)")
    made.add_argument("--comfyui", metavar="PATH", help="a ComfyUI folder to run in (default: $COMFYUI_PATH)")
    made.add_argument("-o", "--output", metavar="OUT", help=f"the MP4 to write (default: {OUT})")
    return made


def _make(prompt: str | None, comfyui: str | None, output: str | None) -> Path:
    out = _output_file(output)
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    if prompt is not None:
        _inputs(workflow, REQUEST_NODE)["prompt"] = prompt
    request = _request(workflow)
    model = _inputs(workflow, MODEL_NODE)["model"]
    host = _host(comfyui)
    if host is None:
        _run_here(request, model, out)
    else:
        _run_in(host, workflow, out)
    facts = probe(out)
    _compare(facts, request, model)
    print(_summary(facts), _computed(json.loads(facts.tags[RECEIPT])), sep="\n", file=sys.stderr)
    return out


def _output_file(given: str | None) -> Path:
    """Return the output file. An MP4 there is replaced; any other file is an error."""
    out = Path(given or OUT).expanduser().absolute()
    if out.is_dir():
        out = out / OUT
    if out.suffix.lower() != ".mp4":
        raise RequestError.of("--output", str(out), "give a name that ends in .mp4, or a folder")
    if out.exists() and not _is_mp4(out):
        raise RequestError.of(
            "--output", f"{out} exists and is not an MP4 file", "give another name, or move that file"
        )
    return out


def _is_mp4(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(8)[4:] == b"ftyp"  # ISO/IEC 14496-12, 4.3: the file type box comes first


def _inputs(workflow: _Workflow, class_type: str) -> dict[str, Any]:
    """Return the inputs of the only node of a class."""
    found: dict[str, Any] = _node_of(workflow, class_type)[1]["inputs"]
    return found


def _node_of(workflow: _Workflow, class_type: str) -> tuple[str, dict[str, Any]]:
    (found,) = ((node_id, node) for node_id, node in workflow.items() if node["class_type"] == class_type)
    return found


def _request(workflow: _Workflow) -> WanRequest:
    """Return the request of the workflow's request node."""
    settings = _inputs(workflow, REQUEST_NODE)
    return t2v_request(**{name: value for name, value in settings.items() if value != PROVIDER_DEFAULT})


def _host(comfyui: str | None) -> Host | None:
    """Return the ComfyUI to run in, or print why there is none and return None.

    Raises HostError when the user named one and it cannot run the pack.
    """
    found = find_comfyui(comfyui)
    if found is None:
        print("No ComfyUI given (--comfyui PATH or $COMFYUI_PATH): running in this process.", file=sys.stderr)
        return None
    try:
        return examine(found.path)
    except HostError as error:
        if found.named:
            raise
        print(f"Running in this process instead of the ComfyUI around this folder: {error}", file=sys.stderr)
        return None


# ---- the two ways


def _run_here(request: WanRequest, model: str, out: Path) -> None:
    from ..device.memory import DeviceMemory
    from ..generate.local_run import run
    from ..loading.wan_model import load_model

    run(request, load_model(model), out=out, memory=DeviceMemory(), progress=TerminalProgress(sys.stderr))


def _run_in(host: Host, workflow: _Workflow, out: Path) -> None:
    where = "on the CPU" if host.cpu else "on its device"
    print(f"Starting the ComfyUI in {host.path} {where} ...", file=sys.stderr, flush=True)
    with reserved_output(out) as staged, HeadlessComfyUI(host) as comfyui:
        print("It runs; the workflow is queued.", file=sys.stderr, flush=True)
        shown = _Shown(workflow, TerminalProgress(sys.stderr))
        job = comfyui.run(workflow, on_progress=shown)
        comfyui.client.download(_saved(job, workflow), staged)
        receipt = probe(staged).tags.get(RECEIPT)
        if receipt is None:
            raise HostError(f"The video that ComfyUI saved, {out}, contains no receipt.")
        write_sidecar(staged, json.loads(receipt))


def _saved(job: WorkflowResult, workflow: _Workflow) -> OutputFile:
    node_id, _ = _node_of(workflow, SAVE_NODE)
    files = [file for file in job.files if file.node_id == node_id]
    if len(files) != 1:
        raise HostError(
            f"{SAVE_NODE} (node {node_id}) lists {len(files)} files in ComfyUI's history, not one."
        )
    return files[0]


class _Shown:
    """Shows ComfyUI's progress as stages: the progress of a node is a stage with the name of the node."""

    def __init__(self, workflow: _Workflow, progress: Progress) -> None:
        self._workflow, self._progress = workflow, progress
        self._now: tuple[str, float] | None = None
        self._done = 0.0

    def __call__(self, at: WorkflowProgress) -> None:
        if at.total <= 1:  # a node that counts nothing
            return
        if self._now != (at.node_id, at.total) or at.done < self._done:
            self._now = (at.node_id, at.total)
            node = self._workflow[at.node_id]
            title = node.get("_meta", {}).get("title") or node["class_type"]
            self._progress.begin(title, int(at.total), "parts")
        elif at.done == self._done:
            return
        self._done = at.done
        self._progress.advance(int(at.done))


# ---- reading back


def _compare(facts: VideoFacts, request: WanRequest, model: str) -> None:
    """Raise MediaError unless the file has the frames, size and rate of the plan, computed again here."""
    family = FAMILIES[model]
    resolved = check(request, family=family).require()
    plan = make_plan(resolved, family, seed=0)  # what is compared does not depend on the seed
    verify(facts, frames=plan.frames_out, width=plan.width, height=plan.height, fps=plan.fps_out)


def _summary(facts: VideoFacts) -> str:
    size = f"{facts.width}x{facts.height}"
    return f"Read back: {facts.frames} frames of {size} at {float(facts.fps):g} fps, as planned."


def _computed(receipt: dict[str, Any]) -> str:
    """Describe the kernels that were used, and why faster ones were not."""
    from ..kernels.choices import FloatChoices

    model = receipt["model"]
    choices = FloatChoices(**model["choices"], refused=model["kernels_refused"])
    return f"Computed on {model['device']} in {model['dtype']}: {choices.text()}."


if __name__ == "__main__":
    sys.exit(main())
