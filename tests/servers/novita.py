"""A Novita on this machine: tasks, results with signed addresses, and the balance.

python -m tests.servers.novita --port 8901
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .cdn import Stored
from .contract import faults_in
from .loopback import Loopback, run_by_hand
from .results import clip

ENDPOINTS = {
    path: f"POST https://api.novita.ai{path}"
    for path in (
        "/v3/async/wan-t2v",
        "/v3/async/wan-i2v",
        "/v3/async/wan-2.2-t2v",
        "/v3/async/wan-2.2-i2v",
    )
}


@dataclass
class Task:
    task_id: str
    path: str
    body: dict[str, Any]
    looks: int = 0


@dataclass
class NovitaServer(Loopback):
    """failure: the reason with which every task ends. ttl: as it is told, a text or a number."""

    queue_looks: int = 1
    run_looks: int = 2
    failure: str | None = None
    ttl: str | int = "3600"
    jobs: dict[str, Task] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            *(web.post(path, self._submit) for path in ENDPOINTS),
            web.get("/v3/async/task-result", self._result),
            web.get("/v1/user/balance", self._balance),
        ]

    def summary(self) -> dict[str, int]:
        return {"jobs": len(self.jobs)}

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        async def create(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            body = await request.json()
            problems = faults_in("novita", ENDPOINTS[request.path], body)
            if problems:
                loc, _, message = problems[0]
                return _refuse(400, "INVALID_REQUEST_BODY", f"{'.'.join(map(str, loc))}: {message}")
            paths = [lora["path"] for lora in body.get("loras") or ()]
            if any(path.startswith(("/", ".", "sha256:")) for path in paths):
                return _refuse(400, "INVALID_REQUEST_BODY", "loras: not a model name")
            task = Task(str(uuid.uuid4()), request.path, body)
            self.jobs[task.task_id] = task
            return web.json_response({"task_id": task.task_id})

        return await self.script.serve("submit", request, create)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        async def tell(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            task = self.jobs.get(request.query.get("task_id", ""))
            if task is None:
                return _refuse(404, "TASK_NOT_FOUND", "task not found")
            return web.json_response(self._told(task))

        return await self.script.serve("status", request, tell)

    async def _balance(self, request: web.Request) -> web.StreamResponse:
        async def tell(request: web.Request) -> web.StreamResponse:
            refused = self._unauthorized(request)  # a response is false in aiohttp 3.11
            return web.json_response({"credit_balance": 100000}) if refused is None else refused

        return await self.script.serve("balance", request, tell)

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization")
        if given is None:
            return _refuse(400, "MISSING_API_KEY", "missing api key")
        scheme, _, key = given.partition(" ")
        if scheme == "Bearer" and key and self.key in (None, key):
            return None
        return _refuse(403, "INVALID_API_KEY", f"invalid api key {key}")

    def _told(self, task: Task) -> dict[str, Any]:
        queued = task.looks < self.queue_looks
        running = task.looks < self.queue_looks + self.run_looks
        task.looks += 1
        word = "QUEUED" if queued else "PROCESSING" if running else "FAILED" if self.failure else "SUCCEED"
        done = max(0, task.looks - 1 - self.queue_looks)
        told: dict[str, Any] = {
            "task": {
                "task_id": task.task_id,
                "task_type": "WAN_TXT_TO_VIDEO",
                "status": f"TASK_STATUS_{word}",
                "reason": self.failure if word == "FAILED" else "",
                "eta": 10 if word == "PROCESSING" else 0,
                "progress_percent": 100 * done // self.run_looks if word == "PROCESSING" else 0,
            },
            "extra": {"seed": str(task.body.get("seed", 7)), "debug_info": {}},
            "images": [],
            "videos": [],
            "audios": [],
        }
        if word == "SUCCEED":
            name = f"{task.task_id}.mp4"
            self.cdn.files[name] = Stored(self.data or clip(), "video/mp4")
            url = f"{self.url}/cdn/signed/{name}?signature={self.cdn.signature}"
            told["videos"] = [{"video_url": url, "video_url_ttl": self.ttl, "video_type": "mp4"}]
        return told


def _refuse(status: int, reason: str, message: str) -> web.Response:
    body = {"code": status, "reason": reason, "message": message, "metadata": {}}
    return web.json_response(body, status=status)


if __name__ == "__main__":
    run_by_hand("novita", lambda key: NovitaServer(key=key), port=8901)
