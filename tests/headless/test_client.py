"""The client against a small server that speaks ComfyUI's protocol, faults included."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from wan_duet.pipelines.errors import HostError
from wan_duet.pipelines.headless.client import ComfyClient, OutputFile, WorkflowProgress

from ..quick_clock import quick_loop

WORKFLOW = {"1": {"class_type": "Node", "inputs": {}}}
VIDEO = b"not really a video" * 1000
ID = "0b6f"


class FakeComfyUI:
    """Plays one script: what is told on the websocket after a prompt, and what the history says then."""

    def __init__(self, events: list[tuple[str, dict[str, Any]]], messages: list[Any], status: str) -> None:
        self.events, self.messages, self.status = events, messages, status
        self.refusal: dict[str, Any] | None = None
        self.node_errors: dict[str, Any] = {}
        self.hang_up = False
        self.lists_after = 1  # looks at the history, which is written a moment after the job has ended
        self.posted: list[tuple[str, Any]] = []
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._asked = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._up = threading.Event()
        self.url = ""

    def __enter__(self) -> FakeComfyUI:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/ws", self._ws),
                web.post("/prompt", self._prompt),
                web.get("/history/{id}", self._history),
                web.get("/view", self._view),
                web.post("/interrupt", self._note),
                web.post("/queue", self._note),
            ]
        )
        runner = web.AppRunner(app)

        async def begin() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = "http://{}:{}".format(*runner.addresses[0])

        self._loop.run_until_complete(begin())
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[request.query["clientId"]] = socket
        await socket.send_json({"type": "status", "data": {"status": {}}})
        async for message in socket:
            assert message.type is WSMsgType.TEXT
        return socket

    async def _prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.posted.append(("/prompt", body))
        if self.refusal is not None:
            return web.json_response(self.refusal, status=400)
        socket = self._sockets[body["client_id"]]
        await socket.send_bytes(b"\0\0\0\1 a preview")
        await socket.send_json({"type": "execution_success", "data": {"prompt_id": "somebody else's"}})
        for kind, data in self.events:
            await socket.send_json({"type": kind, "data": {"prompt_id": ID, **data}})
        if self.hang_up:
            await socket.close()
        return web.json_response({"prompt_id": ID, "number": 1, "node_errors": self.node_errors})

    async def _history(self, request: web.Request) -> web.Response:
        self._asked += 1
        if self._asked <= self.lists_after:
            return web.json_response({})
        image = {"filename": "a.mp4", "subfolder": "video", "type": "output"}
        outputs = {"7": {"images": [image], "animated": [True]}, "8": {"text": ["words"]}}
        status = {"status_str": self.status, "completed": True, "messages": self.messages}
        return web.json_response({ID: {"outputs": outputs, "status": status}})

    async def _view(self, request: web.Request) -> web.Response:
        if dict(request.query) != {"filename": "a.mp4", "subfolder": "video", "type": "output"}:
            return web.Response(status=404)
        return web.Response(body=VIDEO)

    async def _note(self, request: web.Request) -> web.Response:
        self.posted.append((request.path, await request.json()))
        return web.Response()


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeComfyUI]]:
    running: list[FakeComfyUI] = []

    def start(
        events: list[tuple[str, dict[str, Any]]] | None = None,
        messages: list[Any] | None = None,
        status: str = "success",
    ) -> FakeComfyUI:
        made = FakeComfyUI([("execution_success", {})] if events is None else events, messages or [], status)
        running.append(made.__enter__())
        return made

    yield start
    for made in running:
        made.__exit__()


def node(done: float, total: float, state: str = "running") -> dict[str, Any]:
    return {"value": done, "max": total, "state": state, "node_id": "3", "display_node_id": "3"}


def test_a_workflow_runs_with_progress_and_its_files_are_fetched(
    fake: Callable[..., FakeComfyUI], tmp_path: Path
) -> None:
    events = [
        ("executing", {"node": "3"}),
        ("progress_state", {"nodes": {"3": node(1, 4), "2": node(1, 1, "finished")}}),
        ("progress_state", {"nodes": {"3": node(4, 4)}}),
        ("execution_success", {}),
    ]
    seen: list[WorkflowProgress] = []
    with ComfyClient(fake(events).url) as client:
        job = client.run(WORKFLOW, on_progress=seen.append)
        assert seen == [WorkflowProgress("3", 0, 0), WorkflowProgress("3", 1, 4), WorkflowProgress("3", 4, 4)]
        assert job.files == [OutputFile("7", "a.mp4", "video", "output")]
        assert client.download(job.files[0], tmp_path / "out.mp4").read_bytes() == VIDEO
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_a_failing_node_is_quoted(fake: Callable[..., FakeComfyUI]) -> None:
    data = {
        "node_id": "3",
        "node_type": "WanDuetRunLocal",
        "exception_type": "x.y.errors.RequestError",
        "exception_message": "shift: 99; give 1 to 10\n",
    }
    comfyui = fake([("execution_error", data)], [["execution_start", {}], ["execution_error", data]], "error")
    with ComfyClient(comfyui.url) as client, pytest.raises(HostError) as caught:
        client.run(WORKFLOW)
    assert str(caught.value) == "WanDuetRunLocal (node 3) failed: RequestError: shift: 99; give 1 to 10"


def test_an_interrupted_job_is_told_apart(fake: Callable[..., FakeComfyUI]) -> None:
    data = {"node_id": "3", "node_type": "WanDuetRunLocal"}
    comfyui = fake([("execution_interrupted", data)], [["execution_interrupted", data]], "error")
    with ComfyClient(comfyui.url) as client:
        job = client.follow(WORKFLOW)
    assert job.status == "interrupted"
    assert "WanDuetRunLocal (node 3)" in job.error


def test_a_refused_workflow_names_the_nodes(fake: Callable[..., FakeComfyUI]) -> None:
    comfyui = fake()
    error = {"message": "Value not in list", "details": "resolution: '4k'"}
    comfyui.refusal = {
        "error": {"message": "Prompt outputs failed validation", "details": ""},
        "node_errors": {"5": {"class_type": "WanDuetTextToVideo", "errors": [error]}},
    }
    with ComfyClient(comfyui.url) as client, pytest.raises(HostError) as caught:
        client.run(WORKFLOW)
    assert "WanDuetTextToVideo (node 5): Value not in list: resolution: '4k'" in str(caught.value)


def test_a_half_refused_workflow_is_taken_back(fake: Callable[..., FakeComfyUI]) -> None:
    comfyui = fake([])
    error = {"message": "Required input is missing", "details": "model"}
    comfyui.node_errors = {"5": {"class_type": "WanDuetRunLocal", "errors": [error]}}
    with ComfyClient(comfyui.url) as client, pytest.raises(HostError, match="Required input is missing"):
        client.run(WORKFLOW)
    assert ("/queue", {"delete": [ID]}) in comfyui.posted


def test_leaving_early_cancels_the_job(fake: Callable[..., FakeComfyUI]) -> None:
    comfyui = fake([("executing", {"node": "3"})])

    def leave(progress: WorkflowProgress) -> None:
        raise KeyboardInterrupt

    with ComfyClient(comfyui.url) as client, pytest.raises(KeyboardInterrupt):
        client.run(WORKFLOW, on_progress=leave)
    assert comfyui.posted[-2:] == [("/queue", {"delete": [ID]}), ("/interrupt", {"prompt_id": ID})]


def test_a_job_that_takes_too_long_is_given_up_soon(fake: Callable[..., FakeComfyUI]) -> None:
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    with (
        ComfyClient(fake([]).url, clock=clock) as client,
        pytest.raises(HostError, match="not finished the workflow after 3 s"),
    ):
        client.run(WORKFLOW, timeout_s=3)
    assert len(looks) <= 25
    assert max(after - before for before, after in itertools.pairwise(looks)) < 4.0


def test_a_comfyui_that_goes_away_is_noticed(fake: Callable[..., FakeComfyUI]) -> None:
    comfyui = fake([])
    comfyui.hang_up = True
    with ComfyClient(comfyui.url) as client, pytest.raises(HostError, match="closed the connection"):
        client.run(WORKFLOW)


def test_nobody_listening_is_a_host_error() -> None:
    with ComfyClient("http://127.0.0.1:9") as client, pytest.raises(HostError, match="does not answer"):
        client.get("/queue")


def test_a_missing_output_leaves_no_file(fake: Callable[..., FakeComfyUI], tmp_path: Path) -> None:
    gone = OutputFile("7", "b.mp4", "", "output")
    with ComfyClient(fake().url) as client, pytest.raises(HostError, match=r"lists b\.mp4 but answered 404"):
        client.download(gone, tmp_path / "b.mp4")
    assert list(tmp_path.iterdir()) == []


def ticking(seconds: float) -> Callable[[], float]:
    """A clock on which every look takes so long."""
    looks = itertools.count()
    return lambda: next(looks) * seconds


def test_a_job_that_has_time_left_is_waited_for(fake: Callable[..., FakeComfyUI]) -> None:
    with ComfyClient(fake([("executing", {"node": "3"}), ("execution_success", {})]).url) as client:
        assert client.run(WORKFLOW, timeout_s=60).status == "success"


def test_a_history_on_a_slow_disk_is_waited_for(fake: Callable[..., FakeComfyUI]) -> None:
    comfyui = fake()
    comfyui.lists_after = 3
    with ComfyClient(comfyui.url, clock=ticking(5.0)) as client:
        assert client.run(WORKFLOW).status == "success"


def test_a_job_that_no_history_ever_lists_is_an_error_within_minutes(
    fake: Callable[..., FakeComfyUI],
) -> None:
    comfyui = fake()
    comfyui.lists_after = 20
    with (
        ComfyClient(comfyui.url, clock=ticking(10.0)) as client,
        pytest.raises(HostError, match="its history does not list it"),
    ):
        client.run(WORKFLOW)


def client_of_one_that_answers_after(seconds: float) -> ComfyClient:
    """Both run on one quick clock."""
    loop = quick_loop()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(seconds)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    return ComfyClient(url, new_loop=lambda: loop)


def test_a_comfyui_that_is_busy_for_half_a_minute_is_waited_for() -> None:
    with client_of_one_that_answers_after(30.0) as client:
        assert client.get("/queue") == {}


def test_a_comfyui_that_is_silent_for_five_minutes_does_not_answer() -> None:
    silent = client_of_one_that_answers_after(300.0)
    with silent as client, pytest.raises(HostError, match="does not answer"):
        client.get("/queue")


def test_a_connection_that_is_closed_without_an_answer_is_a_host_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            for _ in range(2):  # aiohttp asks once more
                connection, _ = server.accept()
                connection.recv(4096)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with (
            ComfyClient(f"http://127.0.0.1:{server.getsockname()[1]}") as client,
            pytest.raises(HostError, match="does not answer"),
        ):
            client.get("/queue")
