"""Rows on ComfyUIs that work, lose their queue, run out of memory, end, or send other bytes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from wan_duet.pipelines.errors import ModelError, RequestError, WorkerAbsentError, WorkerLostError
from wan_duet.pipelines.fleet.comfy_addresses import comfy_addresses, require_address
from wan_duet.pipelines.fleet.comfy_place import ComfyPlace, require_runner, workflow_of
from wan_duet.pipelines.fleet.retries import FailedAttemptError
from wan_duet.pipelines.fleet.worker import LeaseLost, Task
from wan_duet.pipelines.request import parse
from wan_duet.pipelines.video.output import file_entry

from .batches import manifest, paint, write_rows

VIDEO = b"not really a video" * 100
MODEL_NODE = {"WanDuetLoadModel": {"input": {"required": {"model": [["toy"], {"default": "toy"}]}}}}


@dataclass
class FakeComfyUI:
    """Answers as ComfyUI does. ends: "success", an error, "never", "later"; "forgets" the job."""

    folder: Path
    ends: str = "success"
    sent: bytes = VIDEO
    prompts: list[dict[str, Any]] = field(default_factory=list)
    cancelled: list[Any] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def answer(self, value: Any) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.answer(fake.get(urlsplit(self.path)))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(fake.post(self.path, body))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, asked: Any) -> Any:
        if asked.path.startswith("/object_info"):
            return MODEL_NODE
        if asked.path.startswith("/history"):
            if self.ends == "later":
                self.looks += 1
                return {} if self.looks < 3 else {asked.path.split("/")[-1]: self.entry()}
            return {} if self.ends in ("never", "forgets") else {asked.path.split("/")[-1]: self.entry()}
        if asked.path == "/queue":
            running = [[0, f"job-{len(self.prompts)}"]] if self.ends in ("never", "later") else []
            return {"queue_running": running, "queue_pending": []}
        name = parse_qs(asked.query)["filename"][0]
        if not name.endswith(".json"):
            return self.sent
        (self.folder / "whole.mp4").write_bytes(VIDEO)
        seed = json.loads(self.prompts[-1]["wan duet request"]["inputs"]["json"])["seed"]
        return {"seed": seed, "frames_sha256": "f", "file": file_entry(self.folder / "whole.mp4")}

    def entry(self) -> dict[str, Any]:
        if self.ends not in ("success", "later"):
            data = {"node_type": "WanDuetRunLocal", "node_id": "run", "exception_message": self.ends}
            return {"status": {"status_str": "error", "messages": [["execution_error", data]]}}
        prefix = Path(self.prompts[-1]["run"]["inputs"]["filename_prefix"])
        file = {"filename": f"{prefix.name}_00001_.mp4", "subfolder": str(prefix.parent), "type": "temp"}
        return {"status": {"status_str": "success"}, "outputs": {"run": {"images": [file]}}}

    def post(self, path: str, body: bytes) -> Any:
        if path == "/prompt":
            self.prompts.append(json.loads(body)["prompt"])
            return {"prompt_id": f"job-{len(self.prompts)}"}
        if path == "/upload/image":
            self.uploads.append(body)
            return {"name": "uploaded.png"}
        self.cancelled.append(json.loads(body))
        return {}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def comfyui(tmp_path: Path) -> Iterator[FakeComfyUI]:
    made = FakeComfyUI(tmp_path)
    yield made
    made.stop()


def task(folder: Path, **more: Any) -> Task:
    request = parse(more.pop("kind", "text-to-video"), {"prompt": "a", "seed": 7, **more.pop("fields", {})})
    (folder / "attempt").mkdir(exist_ok=True)
    return Task(request, folder / "attempt", "row", **more)


def test_a_row_is_a_job_and_its_file_comes_with_its_receipt(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    made = ComfyPlace(comfyui.url, "toy").make(task(tmp_path, attempt=3))
    assert (made.path.name, made.path.read_bytes(), made.frames_sha256) == ("row.mp4", VIDEO, "f")
    assert json.loads(made.path.with_suffix(".json").read_text())["seed"] == 7
    (prompt,) = comfyui.prompts
    asked = json.loads(prompt["wan duet request"]["inputs"]["json"])
    assert (asked["kind"], asked["prompt"]) == ("text-to-video", "a")
    assert prompt["run"]["inputs"]["request"] == ["wan duet request", 0]
    assert prompt["run"]["inputs"]["filename_prefix"] == "wan-duet-batch/row-3"
    assert prompt["model"]["inputs"]["model"] == "toy"


def test_a_job_that_takes_its_time_is_waited_for(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    comfyui.ends, beats = "later", []
    assert ComfyPlace(comfyui.url, "toy").make(task(tmp_path, beat=lambda: beats.append(1))).path.exists()
    assert len(beats) >= 2


def test_a_comfyui_that_says_nothing_has_lost_its_row_within_a_minute_and_not_at_once() -> None:
    assert 10 <= ComfyPlace("http://127.0.0.1:9", "toy").lease_s <= 60


@pytest.mark.parametrize(
    ("ends", "cause"),
    [
        ("CUDA error: out of memory", "out of memory"),
        ("OutOfMemoryError: Allocation on device 0", "out of memory"),
        ("ModelError: no such file", "failed"),
    ],
)
def test_a_job_that_fails_has_its_cause(tmp_path: Path, comfyui: FakeComfyUI, ends: str, cause: str) -> None:
    comfyui.ends = ends
    with pytest.raises(FailedAttemptError, match=ends) as raised:
        ComfyPlace(comfyui.url, "toy").make(task(tmp_path))
    assert raised.value.cause == cause


def test_a_comfyui_that_was_restarted_has_lost_the_row(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    comfyui.ends = "forgets"
    with pytest.raises(WorkerLostError, match="lost its queue"):
        ComfyPlace(comfyui.url, "toy").make(task(tmp_path))


def test_a_comfyui_that_does_not_answer_is_lost(tmp_path: Path) -> None:
    with pytest.raises(WorkerAbsentError, match="does not answer"):
        ComfyPlace("http://127.0.0.1:9", "toy").make(task(tmp_path))


def test_bytes_that_the_receipt_does_not_name_are_not_taken(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    comfyui.sent = VIDEO[:-1]
    with pytest.raises(WorkerLostError, match="did not arrive as its receipt says"):
        ComfyPlace(comfyui.url, "toy").make(task(tmp_path))


def test_a_row_that_is_taken_away_is_cancelled_there(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    def taken() -> None:
        raise LeaseLost

    comfyui.ends = "never"
    with pytest.raises(LeaseLost):
        ComfyPlace(comfyui.url, "toy").make(task(tmp_path, beat=taken))
    assert {"delete": ["job-1"]} in comfyui.cancelled


def test_a_file_of_this_machine_is_uploaded(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    (tmp_path / "ball.png").write_bytes(b"a picture")
    fields = {"image_url": str(tmp_path / "ball.png")}
    ComfyPlace(comfyui.url, "toy").make(task(tmp_path, kind="image-to-video", fields=fields))
    asked = json.loads(comfyui.prompts[0]["wan duet request"]["inputs"]["json"])
    assert asked["image_url"] == "uploaded.png"
    assert b"a picture" in comfyui.uploads[0]


def test_the_rows_of_a_dead_comfyui_go_to_another(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", *({"prompt": text, "seed": 1} for text in "abc"))
    places = [ComfyPlace("http://127.0.0.1:9", "toy"), ComfyPlace(comfyui.url, "toy")]
    assert paint(rows, tmp_path / "out", places).done == 3
    assert {line["place"] for line in manifest(tmp_path / "out")} == {f"comfy {comfyui.url}"}


WORKFLOW = {
    "1": {"class_type": "WanDuetLoadModel", "inputs": {"model": "big"}},
    "2": {"class_type": "WanDuetLora", "inputs": {"model": ["1", 0]}},
    "3": {"class_type": "WanDuetTextToVideo", "inputs": {"prompt": "theirs"}},
    "4": {"class_type": "WanDuetRunLocal", "inputs": {"model": ["2", 0], "request": ["3", 0], "save": True}},
    "5": {"class_type": "SaveVideo", "inputs": {"video": ["4", 0]}},
}


def test_a_workflow_of_the_user_keeps_its_model_and_nothing_that_saves() -> None:
    made = workflow_of(WORKFLOW, {"prompt": "ours"}, "row")
    assert sorted(made) == ["1", "2", "4", "wan duet receipt", "wan duet request"]
    assert made["4"]["inputs"]["model"] == ["2", 0]
    assert made["4"]["inputs"]["save"] is False
    assert WORKFLOW["4"]["inputs"]["request"] == ["3", 0], "the user's workflow was changed"


@pytest.mark.parametrize("number", [0, 2])
def test_a_workflow_needs_one_runner(number: int) -> None:
    nodes = {str(index): WORKFLOW["4"] for index in range(number)}
    with pytest.raises(RequestError, match=f"has {number} Wan Duet Run Local"):
        require_runner(nodes)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"addresses": []}', '{"addresses": "x"}', '{"addresses": ["127.0.0.1:8188"]}']
)
def test_a_wrong_list_of_comfyuis_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "comfy.json").write_text(content)
    with pytest.raises(RequestError):
        comfy_addresses(tmp_path)


def test_the_list_of_comfyuis_is_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--comfy: not given"):
        comfy_addresses(tmp_path)
    (tmp_path / "comfy.json").write_text('{"addresses": ["http://a:8188/", "https://b"]}')
    assert comfy_addresses(tmp_path) == ["http://a:8188", "https://b"]


@pytest.mark.parametrize("url", ["", "ftp://a", "http://", "http://a:x", "http://a/?token=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="give addresses such as"):
        require_address(url, "--comfy")


def test_an_unknown_file_of_the_job_is_told(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    comfyui.entry = lambda: {"status": {"status_str": "success"}, "outputs": {}}  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="lists no file of it"):
        ComfyPlace(comfyui.url, "toy").make(task(tmp_path))
