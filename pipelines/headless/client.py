"""Talks to a running ComfyUI: queues a workflow, follows it, fetches its files.

All calls block. Progress arrives over ComfyUI's websocket, everything else uses its HTTP API. Every failure
is a HostError that contains the message of the failed node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

import aiohttp

from ..errors import HostError, HostGoneError, MediaError
from ..files.on_disk import discard, move_into_place

__all__ = ["ComfyClient", "OutputFile", "Workflow", "WorkflowProgress", "WorkflowResult"]

T = TypeVar("T")
_Socket: TypeAlias = "aiohttp.ClientWebSocketResponse[bool]"
Workflow: TypeAlias = Mapping[str, Any]  # the API format: {node id: {"class_type": ..., "inputs": {...}}}

_POLL_S = 0.5  # how often the deadline is checked while the websocket is silent
_SILENCE_S = 60.0  # timeout for connecting to ComfyUI, and between two parts of an answer
_HISTORY_S = 30.0  # how long the history may take to list a finished job


@dataclass(frozen=True)
class WorkflowProgress:
    """The progress of a node. `done` and `total` are 0 for a node that has only started."""

    node_id: str
    done: float
    total: float


@dataclass(frozen=True)
class OutputFile:
    """A file that a node listed as its output. `folder` is "output", "temp" or "input"."""

    node_id: str
    name: str
    subfolder: str
    folder: str


@dataclass(frozen=True)
class WorkflowResult:
    """A finished workflow. `status` is "success", "error" or "interrupted", `error` gives the reason."""

    prompt_id: str
    status: str
    error: str
    outputs: Mapping[str, Any]  # as in /history: {node id: {"images": [...], ...}}

    @property
    def files(self) -> list[OutputFile]:
        """Return all files in the outputs, in the order of the nodes."""
        return [
            OutputFile(node_id, item["filename"], item.get("subfolder", ""), item.get("type", "output"))
            for node_id, output in self.outputs.items()
            for items in output.values()
            if isinstance(items, list)
            for item in items
            if isinstance(item, dict) and "filename" in item
        ]


class ComfyClient:
    """A client of the ComfyUI at `url`. Close it, or use it in a `with`. Not thread-safe.

    Its own event loop runs only during a call, so a progress callback may call the client too.

    clock:    seconds, for deadlines.
    new_loop: makes the event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._clock = clock
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self._loop = new_loop()
        self._session = self._loop.run_until_complete(_open_session())

    def __enter__(self) -> ComfyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self.close()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._session.close())
            self._loop.close()

    def get(self, path: str, **params: str) -> Any:
        """Send GET `path` and return the JSON of the answer. Raises HostError if the request fails."""
        return self._await(self._request("GET", path, params=params))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send POST `path` and return the JSON of the answer, None if it is empty. Raises HostError."""
        return self._await(self._request("POST", path, body=body))

    def queue(self, workflow: Workflow, extra_data: Mapping[str, Any] | None = None) -> str:
        """Queue a workflow and return its prompt id.

        Raises HostError with the errors of each node when ComfyUI rejects the workflow or a part of it.
        """
        body = {"prompt": workflow, "client_id": self.client_id, "extra_data": dict(extra_data or {})}
        answer = self.post("/prompt", body)
        prompt_id = str(answer["prompt_id"])
        if answer.get("node_errors"):  # only a part is rejected, and ComfyUI would run the rest
            self.cancel(prompt_id)
            raise HostError(_refusal(answer))
        return prompt_id

    def run(
        self,
        workflow: Workflow,
        *,
        on_progress: Callable[[WorkflowProgress], None] | None = None,
        extra_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> WorkflowResult:
        """Queue a workflow, wait for it, and return its result.

        timeout_s: None waits without limit.

        Raises HostError when the workflow fails, is interrupted, or takes longer than `timeout_s`.
        """
        job = self.follow(workflow, on_progress=on_progress, extra_data=extra_data, timeout_s=timeout_s)
        if job.status != "success":
            raise HostError(job.error)
        return job

    def follow(
        self,
        workflow: Workflow,
        *,
        on_progress: Callable[[WorkflowProgress], None] | None = None,
        extra_data: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> WorkflowResult:
        """Queue a workflow, wait for it, and return its result, also when it failed or was interrupted.

        Any exception cancels the workflow. Raises HostError after `timeout_s`, or when the connection breaks.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        socket = self._await(self._listen())
        try:
            prompt_id = self.queue(workflow, extra_data)
            try:
                while not self._job_ended(socket, prompt_id, on_progress):
                    if deadline is not None and self._clock() > deadline:
                        raise HostError(f"ComfyUI has not finished the workflow after {timeout_s:.0f} s.")
                return self._result(prompt_id)
            except BaseException:
                with contextlib.suppress(HostError):  # the first error matters more
                    self.cancel(prompt_id)
                raise
        finally:
            self._loop.run_until_complete(socket.close())

    def cancel(self, prompt_id: str) -> None:
        """Remove a job from the queue, and stop it if it runs."""
        self.post("/queue", {"delete": [prompt_id]})
        self.interrupt(prompt_id)

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stop the running job. With `prompt_id`, only if it is that one."""
        self.post("/interrupt", {} if prompt_id is None else {"prompt_id": prompt_id})

    def job(self, prompt_id: str) -> WorkflowResult | None:
        """Return the result of a job from the history. None until it has ended."""
        entry = self.get(f"/history/{prompt_id}").get(prompt_id)
        return None if entry is None else _job(prompt_id, entry)

    def upload(self, file: Path, name: str) -> str:
        """Upload a file into ComfyUI's input folder as `name`, and return how a node names it.

        A file of that name is replaced. Raises HostError, and MediaError when it cannot be read.
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            raise MediaError(f"cannot read {file}: {error.strerror or error}") from error
        return self._await(self._upload(content, name))

    def download(self, file: OutputFile, to: Path) -> Path:
        """Download one output file to `to`, which appears only when it is complete.

        Raises HostError when ComfyUI does not deliver it, MediaError when it cannot be written.
        """
        return self._await(self._download(file, to))

    # ---- inside the loop

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(work)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise HostGoneError(f"The ComfyUI at {self.url} does not answer: {reason}") from error

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        async with self._session.request(method, self.url + path, params=params, json=body) as answer:
            text = await answer.text()
            if answer.status == 400 and path == "/prompt":
                raise HostError(_refusal(json.loads(text)))
            if answer.status != 200:
                raise HostError(f"ComfyUI answered {answer.status} to {method} {path}: {text[:500].strip()}")
            return json.loads(text) if text.strip() else None

    async def _upload(self, content: bytes, name: str) -> str:
        form = aiohttp.FormData({"overwrite": "true", "type": "input"})
        form.add_field("image", content, filename=name)
        async with self._session.post(f"{self.url}/upload/image", data=form) as answer:
            if answer.status != 200:
                raise HostError(f"ComfyUI answered {answer.status} to the upload of {name}.")
            return str(json.loads(await answer.text())["name"])

    async def _listen(self) -> _Socket:
        # Previews arrive on the same socket and may be large: no limit on the size of a message.
        return await self._session.ws_connect(
            f"{self.url}/ws", params={"clientId": self.client_id}, max_msg_size=0
        )

    def _job_ended(
        self,
        socket: _Socket,
        prompt_id: str,
        on_progress: Callable[[WorkflowProgress], None] | None,
    ) -> bool:
        """Receive one message, and report its progress. Returns whether the job has ended."""
        try:
            message = self._loop.run_until_complete(socket.receive(timeout=_POLL_S))
        except asyncio.TimeoutError:
            return False
        if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
            raise HostGoneError(f"The ComfyUI at {self.url} closed the connection while it was working.")
        if message.type is aiohttp.WSMsgType.ERROR:
            raise HostGoneError(f"The connection to the ComfyUI at {self.url} broke: {socket.exception()}")
        if message.type is not aiohttp.WSMsgType.TEXT:
            return False
        event = json.loads(message.data)
        data = event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            return False
        if on_progress is not None:
            for progress in _progress_in(event["type"], data):
                on_progress(progress)
        return event["type"] in ("execution_success", "execution_error", "execution_interrupted")

    def _result(self, prompt_id: str) -> WorkflowResult:
        """Wait for the result in the history, which ComfyUI writes shortly after the end of the job."""
        deadline = self._clock() + _HISTORY_S
        while self._clock() < deadline:
            job = self.job(prompt_id)
            if job is not None:
                return job
            time.sleep(0.05)
        raise HostError(f"ComfyUI has ended job {prompt_id}, but its history does not list it.")

    async def _download(self, file: OutputFile, to: Path) -> Path:
        params = {"filename": file.name, "subfolder": file.subfolder, "type": file.folder}
        part = to.with_name(f"{to.name}.part")
        try:
            async with self._session.get(f"{self.url}/view", params=params) as answer:
                if answer.status != 200:
                    raise HostError(
                        f"ComfyUI lists {file.name} but answered {answer.status} when asked for it."
                    )
                await _save(answer, part)
            await asyncio.to_thread(move_into_place, part, to)
        finally:
            discard(part)
        return to


async def _save(answer: aiohttp.ClientResponse, part: Path) -> None:
    """Write the answer to `part`. Raises MediaError when the disk fails, unlike for a broken connection."""
    try:
        with part.open("wb") as out:
            async for chunk in answer.content.iter_chunked(1 << 20):
                out.write(chunk)
    except aiohttp.ClientError:
        raise
    except OSError as error:
        raise MediaError(f"cannot write {part}: {error.strerror or error}") from error


async def _open_session() -> aiohttp.ClientSession:
    # trust_env stays off: requests to this machine must not use a proxy.
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=_SILENCE_S, sock_read=_SILENCE_S)
    )


def _progress_in(kind: str, data: Mapping[str, Any]) -> list[WorkflowProgress]:
    if kind == "executing" and data.get("node") is not None:
        return [WorkflowProgress(str(data["node"]), 0, 0)]
    if kind == "progress_state":
        running = [node for node in data["nodes"].values() if node["state"] == "running"]
        return [WorkflowProgress(str(n["display_node_id"]), n["value"], n["max"]) for n in running]
    return []


def _job(prompt_id: str, entry: Mapping[str, Any]) -> WorkflowResult:
    status = entry.get("status") or {}
    outputs = entry.get("outputs") or {}
    for kind, data in status.get("messages") or []:
        if kind == "execution_interrupted":
            where = f"{data.get('node_type')} (node {data.get('node_id')})"
            return WorkflowResult(
                prompt_id, "interrupted", f"The workflow was interrupted in {where}.", outputs
            )
        if kind == "execution_error":
            return WorkflowResult(prompt_id, "error", _failure(data), outputs)
    if status.get("status_str") != "success":
        return WorkflowResult(
            prompt_id, "error", f"ComfyUI reports {status.get('status_str')!r} and no reason.", outputs
        )
    return WorkflowResult(prompt_id, "success", "", outputs)


def _failure(data: Mapping[str, Any]) -> str:
    kind = str(data.get("exception_type", "")).rsplit(".", 1)[-1]
    message = str(data.get("exception_message", "")).strip()
    return f"{data.get('node_type')} (node {data.get('node_id')}) failed: {kind}: {message}"


def _refusal(answer: Mapping[str, Any]) -> str:
    """Return the reasons why ComfyUI rejects a workflow: one line per input, or its general error."""
    lines = [
        f"{errors.get('class_type')} (node {node_id}): {error.get('message')}: {error.get('details')}"
        for node_id, errors in (answer.get("node_errors") or {}).items()
        for error in errors.get("errors", [])
    ]
    error = answer.get("error")
    if not lines and isinstance(error, dict):
        lines = [f"{error.get('message')}: {error.get('details')}"]
    return "ComfyUI rejects this workflow:\n" + "\n".join(lines or [str(error)])
