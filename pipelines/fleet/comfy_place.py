"""Carries out the rows of a batch on a ComfyUI that has this pack, over HTTP.

A row is a job in its queue: a request as JSON, the model, and Run Local. The file is fetched with its
receipt, which says the hash of its bytes. Media of this machine are uploaded under the hash of their content.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import (
    HostError,
    HostGoneError,
    ModelError,
    RequestError,
    WorkerAbsentError,
    WorkerLostError,
    says_out_of_memory,
)
from ..headless.client import ComfyClient, OutputFile, Workflow, WorkflowResult
from ..request.base import WanRequest
from ..request.check import check
from ..request.field_rows import media_named
from ..video.frame_hash import FRAMES_SHA256
from ..video.output import FILE_ENTRY, file_entry, sidecar
from ..weights.hashing import file_hash
from .retries import Cause, FailedAttemptError
from .worker import MadeFile, Needs, Task, frames_times_steps

__all__ = ["ComfyPlace", "require_runner", "workflow_of"]

_LOOK_S = 0.5
_RUNNER = "WanDuetRunLocal"


class ComfyPlace:
    """The ComfyUI at `url`, as a `Worker` of a batch.

    workflow: in the API format, with one Run Local. None for one with --model, as its Load Model lists it.
    connect:  opens a client.
    """

    place = "comfy"
    memory_bytes = None  # ComfyUI decides what lies where

    def __init__(
        self,
        url: str,
        model: str,
        workflow: Workflow | None = None,
        *,
        lease_s: float = 30.0,
        connect: Callable[[str], ComfyClient] = ComfyClient,
    ) -> None:
        self.name, self.lease_s = f"comfy {url}", lease_s
        self._url, self._model, self._workflow, self._connect = url, model, workflow, connect
        self._closed = threading.Event()

    def check(self, request: WanRequest) -> Needs:
        """Check what needs no model: the ComfyUI checks the rest. The work is frames times steps."""
        report = check(request)
        report.require()
        return Needs(frames_times_steps(request), findings=report.told)

    def make(self, task: Task) -> MadeFile:
        with self._connect(self._url) as client:
            try:
                prompt_id = client.queue(self._job(client, task))
            except HostGoneError as error:
                raise WorkerAbsentError(str(error)) from error
            try:
                return _fetched(client, self._followed(client, prompt_id, task), task)
            except HostGoneError as error:
                raise WorkerLostError(str(error)) from error

    def close(self) -> None:
        self._closed.set()

    def _job(self, client: ComfyClient, task: Task) -> Workflow:
        workflow = self._workflow or _with_model(client.get("/object_info/WanDuetLoadModel"), self._model)
        return workflow_of(workflow, _uploaded(client, task.request), f"{task.name}-{task.attempt}")

    def _followed(self, client: ComfyClient, prompt_id: str, task: Task) -> WorkflowResult:
        """Wait for the job. Each answer of the ComfyUI extends the lease."""
        try:
            while (job := client.job(prompt_id)) is None:
                task.beat()
                if not _is_queued(client, prompt_id) and client.job(prompt_id) is None:
                    raise WorkerLostError(f"the ComfyUI at {self._url} was restarted and has lost its queue")
                if self._closed.wait(_LOOK_S):
                    raise WorkerLostError(f"{self.name} is closed")
        except BaseException:
            _cancel(client, prompt_id)
            raise
        if job.status != "success":
            cause: Cause = "out of memory" if says_out_of_memory(job.error) else "failed"
            raise FailedAttemptError(cause, job.error)
        return job


def workflow_of(workflow: Workflow, request: Mapping[str, Any], name: str) -> Workflow:
    """Return the workflow with this request, a JSON object, in place of its own. name: of the result."""
    runner = require_runner(workflow)
    inputs = {"request": ["wan duet request", 0], "save": False, "filename_prefix": f"wan-duet-batch/{name}"}
    return {
        **{node: workflow[node] for node in _before(workflow, runner)},
        "wan duet request": {"class_type": "WanDuetRequestJson", "inputs": {"json": json.dumps(request)}},
        runner: {"class_type": _RUNNER, "inputs": {**workflow[runner]["inputs"], **inputs}},
        "wan duet receipt": {"class_type": "PreviewAny", "inputs": {"source": [runner, 4]}},
    }


def require_runner(workflow: Workflow) -> str:
    """Return the node that runs requests. Raises RequestError unless there is exactly one Run Local."""
    found = [node for node, value in workflow.items() if value.get("class_type") == _RUNNER]
    if len(found) != 1:
        fix = "export one in the API format with one Wan Duet Run Local"
        raise RequestError.of("--comfy-workflow", f"has {len(found)} Wan Duet Run Local", fix)
    return found[0]


def _before(workflow: Workflow, runner: str) -> list[str]:
    """Return the nodes that the runner needs beside its request."""
    needed: list[str] = []
    links = [value for name, value in workflow[runner]["inputs"].items() if name != "request"]
    while links:
        link = links.pop()
        if isinstance(link, list) and len(link) == 2 and str(link[0]) in workflow and link[0] not in needed:
            needed.append(str(link[0]))
            links += workflow[str(link[0])]["inputs"].values()
    return needed


def _with_model(info: Mapping[str, Any], model: str) -> Workflow:
    """Return Load Model and Run Local with the defaults that the ComfyUI states."""
    stated = info["WanDuetLoadModel"]["input"]["required"]
    defaults = {name: item[1]["default"] for name, item in stated.items() if "default" in item[-1]}
    runs = {"model": ["model", 0], "save": False, "return_images": False, "filename_prefix": ""}
    return {
        "model": {"class_type": "WanDuetLoadModel", "inputs": {**defaults, "model": model}},
        "run": {"class_type": _RUNNER, "inputs": runs},
    }


def _uploaded(client: ComfyClient, request: WanRequest) -> dict[str, Any]:
    """Return the request as JSON, with files of this machine under the names they get at the ComfyUI."""
    document = {"kind": request.kind, **request.document()}
    for field, value in media_named(document).items():
        file = Path(str(value)).expanduser()
        if file.is_file():
            named = file_hash(file).removeprefix("sha256:")[:32] + file.suffix.lower()
            document[field] = client.upload(file, named)
    return document


def _is_queued(client: ComfyClient, prompt_id: str) -> bool:
    queue = client.get("/queue")
    return any(prompt_id in entry for entry in (*queue["queue_running"], *queue["queue_pending"]))


def _cancel(client: ComfyClient, prompt_id: str) -> None:
    try:
        client.cancel(prompt_id)
    except HostError:
        return  # it does not answer; the first error matters more


def _fetched(client: ComfyClient, job: WorkflowResult, task: Task) -> MadeFile:
    """Fetch the file and its receipt. Raises ModelError if the bytes are not those that the receipt names."""
    file = next((one for one in job.files if one.name.startswith(f"{task.name}-{task.attempt}_")), None)
    if file is None:
        raise ModelError(f"the ComfyUI ended the job of {task.name}, and lists no file of it")
    made = task.folder / f"{task.name}{Path(file.name).suffix}"
    client.download(file, made)
    beside = OutputFile(file.node_id, str(Path(file.name).with_suffix(".json")), file.subfolder, file.folder)
    client.download(beside, sidecar(made))
    receipt = json.loads(sidecar(made).read_text(encoding="utf-8"))
    if receipt.get(FILE_ENTRY) != file_entry(made):
        raise WorkerLostError(f"{file.name} did not arrive as its receipt says")
    if receipt["seed"] != task.request.payload().get("seed", receipt["seed"]):
        raise ModelError(f"{file.name} is the result of another request: its seed is {receipt['seed']}")
    return MadeFile(made, receipt.get(FRAMES_SHA256))
