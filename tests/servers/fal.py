"""A fal.ai on this machine: queue, storage, files, list of requests and prices, as strict as the real one.

    python -m tests.servers.fal --port 8900

It moves a job on whenever somebody looks at it, so nothing in it waits.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from aiohttp import web

from .cdn import Stored
from .contract import entries_of, faults_in, files_that_cannot_be_had
from .loopback import Loopback, run_by_hand
from .results import clip, lora, picture

PRICES = {"fal-ai/wan/v2.2-a14b/text-to-video": 0.08}


@dataclass
class Job:
    """state: as fal names it, or CANCELLED."""

    request_id: str
    endpoint: str
    body: dict[str, Any]
    sent_at: str
    headers: Mapping[str, str]
    state: str = "IN_QUEUE"
    looks: int = 0

    @property
    def app(self) -> str:
        return "/".join(self.endpoint.split("/")[:2])


@dataclass
class FalServer(Loopback):
    """queue_looks: how often the status says IN_QUEUE before the job runs.
    run_looks:   how often it says IN_PROGRESS before the job is finished.
    full_ids:    answer with the addresses that some pages show: the whole endpoint, and /response.
    stores_payloads: the list of requests says what was sent.
    page:        how many of them are listed at a time.
    """

    queue_looks: int = 1
    run_looks: int = 1
    full_ids: bool = False
    stores_payloads: bool = True
    page: int = 100
    currency: str = "USD"
    now: Callable[[], float] = time.time
    jobs: dict[str, Job] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/queue/{endpoint:.+}", self._submit),
            web.get("/queue/{app:.+}/requests/{id}/status", self._status),
            web.get("/queue/{app:.+}/requests/{id}/response", self._result),
            web.get("/queue/{app:.+}/requests/{id}", self._result),
            web.put("/queue/{app:.+}/requests/{id}/cancel", self._cancel),
            web.post("/rest/storage/upload/initiate", self._initiate),
            web.post("/rest/storage/upload/initiate-multipart", self._initiate_multipart),
            web.get("/api/v1/models/requests/by-endpoint", self._list),
            web.get("/api/v1/models/pricing", self._pricing),
        ]

    def summary(self) -> dict[str, int]:
        cancelled = sum(job.state == "CANCELLED" for job in self.jobs.values())
        return {"jobs": len(self.jobs), "cancelled": cancelled}

    # ---- queue

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        async def create(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            endpoint = request.match_info["endpoint"]
            if not entries_of("fal", endpoint):
                return web.json_response({"detail": f"Path /{endpoint} not found"}, status=404)
            body = await request.json()
            problems = [
                {"loc": list(loc), "msg": message, "type": kind, "input": None}
                for loc, kind, message in faults_in("fal", endpoint, body)
            ] or list(files_that_cannot_be_had(body, self._has))
            if problems:
                return web.json_response({"detail": problems}, status=422)
            now = datetime.fromtimestamp(self.now(), timezone.utc).isoformat()
            job = Job(str(uuid.uuid4()), endpoint, body, now, dict(request.headers))
            self.jobs[job.request_id] = job
            return web.json_response({"status": "IN_QUEUE", "queue_position": 0, **self._addresses(job)})

        return await self.script.serve("submit", request, create)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        async def tell(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            if (job := self._job(request)) is None:
                return web.json_response({"status": "NOT_FOUND"}, status=404)
            self._move_on(job)
            body: dict[str, Any] = {"status": job.state, **self._addresses(job)}
            if job.state == "IN_QUEUE":
                body["queue_position"] = self.queue_looks - job.looks
                return web.json_response(body, status=202)
            body["logs"] = self._logs(job) if request.query.get("logs") in ("1", "true") else None
            if job.state == "IN_PROGRESS":
                return web.json_response(body, status=202)
            body["metrics"] = {"inference_time": 1.5}
            if job.state == "CANCELLED":
                body |= {"status": "COMPLETED", "error": "cancelled", "error_type": "client_cancelled"}
            return web.json_response(body)

        return await self.script.serve("status", request, tell)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        async def give(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            if (job := self._job(request)) is None:
                return web.json_response({"status": "NOT_FOUND"}, status=404)
            if job.state == "CANCELLED":
                gone = {"detail": "Request was cancelled", "error_type": "client_cancelled"}
                return web.json_response(gone, status=499)
            if job.state != "COMPLETED":
                return web.json_response({"detail": "Request is still in progress"}, status=400)
            return web.json_response(self._outcome(job), headers={"X-Fal-Billable-Units": "5.06"})

        return await self.script.serve("result", request, give)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        async def stop(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            if (job := self._job(request)) is None:
                return web.json_response({"status": "NOT_FOUND"}, status=404)
            if job.state in ("COMPLETED", "CANCELLED"):
                return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
            was_queued, job.state = job.state == "IN_QUEUE", "CANCELLED"
            return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=200 if was_queued else 202)

        return await self.script.serve("cancel", request, stop)

    # ---- storage and account

    async def _initiate(self, request: web.Request) -> web.StreamResponse:
        return await self.script.serve("initiate", request, lambda request: self._place(request, "put"))

    async def _initiate_multipart(self, request: web.Request) -> web.StreamResponse:
        return await self.script.serve("initiate", request, lambda request: self._place(request, "parts"))

    async def _place(self, request: web.Request, where: str) -> web.StreamResponse:
        if (refusal := self._unauthorized(request)) is not None:
            return refusal
        if request.query.get("storage_type") != "fal-cdn-v3":
            return web.json_response({"detail": "unknown storage type"}, status=400)
        body = await request.json()
        if set(body) != {"content_type", "file_name"}:
            return web.json_response({"detail": [{"loc": ["body"], "msg": "wrong fields"}]}, status=422)
        name = f"{uuid.uuid4().hex}_{body['file_name']}"
        return web.json_response(
            {
                "upload_url": f"{self.url}/cdn/{where}/{name}?signature=upload",
                "file_url": f"{self.url}/cdn/files/{name}",
            }
        )

    async def _list(self, request: web.Request) -> web.StreamResponse:
        async def tell(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            wanted, since = request.query["endpoint_id"], request.query.get("start", "")
            found = [
                {"request_id": job.request_id, "endpoint_id": job.endpoint, "sent_at": job.sent_at}
                | (
                    {"json_input": job.body}
                    if self.stores_payloads and request.query.get("expand") == "payloads"
                    else {}
                )
                for job in self.jobs.values()
                if job.endpoint == wanted and job.sent_at >= since.replace("Z", "+00:00")
            ]
            begin = int(request.query.get("cursor", "0"))
            end = begin + self.page
            cursor = str(end) if end < len(found) else None
            return web.json_response({"items": found[begin:end], "next_cursor": cursor})

        return await self.script.serve("list", request, tell)

    async def _pricing(self, request: web.Request) -> web.StreamResponse:
        async def tell(request: web.Request) -> web.StreamResponse:
            if (refusal := self._unauthorized(request)) is not None:
                return refusal
            names = request.query.getall("endpoint_id")
            if any(name not in PRICES for name in names):
                return web.json_response({"detail": "unknown endpoint"}, status=404)
            prices = [
                {
                    "endpoint_id": name,
                    "unit_price": PRICES[name],
                    "unit": "seconds",
                    "currency": self.currency,
                }
                for name in names
            ]
            return web.json_response({"prices": prices})

        return await self.script.serve("pricing", request, tell)

    # ---- inside

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Key" and key and self.key in (None, key):
            return None
        # Some services repeat what they were given. Whoever shows this text must not show the key.
        return web.json_response({"detail": f"Cannot authenticate with {scheme} {key}"}, status=401)

    def _has(self, address: str) -> bool:
        if address.startswith(f"{self.url}/cdn/files/"):
            return address.rpartition("/")[2] in self.cdn.files
        return address.startswith(("https://", "data:"))

    def _job(self, request: web.Request) -> Job | None:
        """By the address a real queue answers to: two parts of the endpoint, with full_ids also all of it."""
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return None
        known = {job.app, job.endpoint} if self.full_ids else {job.app}
        return job if request.match_info["app"] in known else None

    def _addresses(self, job: Job) -> dict[str, str]:
        base = f"{self.url}/queue/{job.endpoint if self.full_ids else job.app}/requests/{job.request_id}"
        return {
            "request_id": job.request_id,
            "response_url": f"{base}/response" if self.full_ids else base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
        }

    def _move_on(self, job: Job) -> None:
        if job.state in ("IN_QUEUE", "IN_PROGRESS"):
            waits = job.looks < self.queue_looks
            runs = job.looks < self.queue_looks + self.run_looks
            job.state = "IN_QUEUE" if waits else "IN_PROGRESS" if runs else "COMPLETED"
            job.looks += 1

    def _logs(self, job: Job) -> list[dict[str, str]]:
        line = f"step {job.looks - self.queue_looks} of {self.run_looks}"
        return [{"message": line, "level": "INFO", "source": "USER", "timestamp": job.sent_at}]

    def _file(self, name: str, data: bytes) -> dict[str, Any]:
        self.cdn.files[name] = Stored(data, "application/octet-stream")
        size = {"content_type": "application/octet-stream", "file_name": name, "file_size": len(data)}
        return {"url": f"{self.url}/cdn/files/{name}", **size}

    def _outcome(self, job: Job) -> dict[str, Any]:
        if any("lora_file" in entry["output"] for entry in entries_of("fal", job.endpoint)):
            return {
                "lora_file": self._file(f"{job.request_id}.safetensors", self.data or lora()),
                "config_file": self._file(f"{job.request_id}.json", b"{}"),
            }
        is_image = any("image" in entry["output"] for entry in entries_of("fal", job.endpoint))
        data = self.data or (picture() if is_image else clip())
        content_type = "image/png" if is_image else "video/mp4"
        name = f"{job.request_id}.{'png' if is_image else 'mp4'}"
        self.cdn.files[name] = Stored(data, content_type)
        url = f"{self.url}/cdn/files/{name}"
        file = {"url": url, "content_type": content_type, "file_name": name, "file_size": len(data)}
        seed = job.body.get("seed", int(hashlib.sha256(job.request_id.encode()).hexdigest()[:8], 16))
        used = job.body.get("prompt", "")
        answer = {"image" if is_image else "video": file, "seed": seed, "prompt": used}
        if any("actual_prompt" in entry["output"] for entry in entries_of("fal", job.endpoint)):
            answer["actual_prompt"] = f"{answer.pop('prompt')}, in great detail"
        return answer


if __name__ == "__main__":
    run_by_hand("fal", lambda key: FalServer(key=key, queue_looks=2, run_looks=4), port=8900)
