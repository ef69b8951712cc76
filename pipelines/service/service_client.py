"""Runs one request at a `wan-duet serve`, and brings its result here. All calls block."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ..errors import HostError, Problem, RequestError
from ..files.staging import staged_pair
from ..request.base import WanRequest
from ..video.output import sidecar
from .fleet_address import FleetAddress
from .service_answers import MEDIA_TYPES

__all__ = ["FleetResult", "newest_jobs", "run_at_service"]

_POLL_S = 1.0
_PATIENCE_S = 600.0  # how long a service may be away while it has our job
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_MOST_WAIT_S = 60.0
_LOOK = httpx.Timeout(5.0)  # of a look that is repeated
_SUFFIXES = {media_type: suffix for suffix, media_type in MEDIA_TYPES.items()}


@dataclass(frozen=True)
class FleetResult:
    """A finished job. path: of the file here, with its receipt beside it."""

    path: Path
    job: Mapping[str, Any]
    receipt: Mapping[str, Any]


@dataclass
class _Away:
    """Since when a service has not answered. clock: returns seconds; only grows."""

    clock: Callable[[], float]
    since: float | None = None

    def note(self, error: Exception, job: str) -> None:
        """Raise HostError if the service has been away for too long."""
        now = self.clock()
        self.since = now if self.since is None else self.since
        if now - self.since > _PATIENCE_S:
            raise HostError(f"the service is away: {error}; it still has job {job} when it comes back")


@dataclass
class _Service:
    """The service, and how to wait. tell: says one line to the user. check: raises if the user stops."""

    address: FleetAddress
    http: httpx.Client
    tell: Callable[[str], None]
    check: Callable[[], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self.address.address}{path}", **options)

    def wait(self, seconds: float) -> None:
        """Wait, and look for the stop of the user meanwhile."""
        until = self.clock() + seconds
        while (left := until - self.clock()) > 0:
            self.check()
            self.sleep(min(left, 0.2))
        self.check()


def run_at_service(
    request: WanRequest,
    address: FleetAddress,
    place: Callable[[str], Path],
    *,
    tell: Callable[[str], None],
    check: Callable[[], None],
    transport: httpx.BaseTransport | None = None,
) -> FleetResult:
    """Run a request whose inputs are data URIs, and write its result with its receipt.

    place: returns the file for a suffix with its dot. tell: says one line to the user. check: raises if the
    user wants to stop; then the job is cancelled.

    Raises RequestError for what the service refuses, HostError for a job that fails or a service that is
    away.
    """
    headers = {"Authorization": f"Bearer {address.key}", "User-Agent": "wan-duet"}
    with httpx.Client(headers=headers, timeout=_TIMEOUT, transport=transport, trust_env=False) as http:
        service = _Service(address, http, tell, check)
        job = _posted(service, request)
        try:
            done = _followed(service, job)
        except BaseException:
            _cancel(service, job["id"])
            raise
        file, away = place(_SUFFIXES[done["result"]["media_type"]]), _Away(service.clock)
        while (result := _fetched_or_away(service, done, file, away)) is None:
            service.wait(_POLL_S)
        return result


def newest_jobs(
    address: FleetAddress, limit: int, transport: httpx.BaseTransport | None = None
) -> list[dict[str, Any]]:
    """Return the newest jobs of this key, as `job_document` says them. limit: 1 to 100.

    Raises HostError if the service is away, refuses, or is none.
    """
    headers = {"Authorization": f"Bearer {address.key}", "User-Agent": "wan-duet"}
    try:
        with httpx.Client(headers=headers, timeout=_LOOK, transport=transport, trust_env=False) as http:
            answer = http.get(f"{address.address}/v1/jobs", params={"limit": limit})
    except httpx.HTTPError as error:
        raise HostError(f"no answer from {address.address}: {error}") from None
    if answer.status_code != 200:
        raise HostError(f"the service refuses: {_message(answer)}")
    jobs = _document(answer).get("data")
    if not isinstance(jobs, list):
        raise HostError("no answer of a wan-duet serve")
    return jobs


def _posted(service: _Service, request: WanRequest) -> dict[str, Any]:
    """Post the request until it is accepted. One idempotency key: what was accepted unseen is not doubled."""
    body = json.dumps({"kind": request.kind, **request.document()}).encode()
    headers = {"Idempotency-Key": uuid.uuid4().hex, "Content-Type": "application/json"}
    away = _Away(service.clock)
    while True:
        service.check()
        try:
            answer = service.call("POST", "/v1/jobs", content=body, headers=headers)
        except httpx.TransportError as error:
            if away.since is None:
                service.tell(f"no answer from {service.address.address}: {error}; trying again")
            away.note(error, "none yet")
            service.wait(_POLL_S)
            continue
        if answer.status_code == 429:
            wait_s = min(float(answer.headers.get("Retry-After", "1")), _MOST_WAIT_S)
            service.tell(_message(answer))
            service.wait(wait_s)
            continue
        return _accepted(answer)


def _accepted(answer: httpx.Response) -> dict[str, Any]:
    said = _document(answer)
    if answer.status_code in (200, 202):
        return said
    error = said.get("error", {})
    problems = [Problem(item["field"], item["found"], item["fix"]) for item in error.get("problems", ())]
    if problems:
        raise RequestError(problems)
    raise HostError(f"the service refuses: {_message(answer)}")


def _followed(service: _Service, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end of a job, also through a restart of the service."""
    away = _Away(service.clock)
    while job["state"] in ("waiting", "running", "publishing"):
        service.tell(_line(job))
        service.wait(_POLL_S)
        try:
            answer = service.call("GET", f"/v1/jobs/{job['id']}")
        except httpx.TransportError as error:
            away.note(error, job["id"])
            service.tell(f"the service is away; job {job['id'][:14]} waits for it")
            continue
        if answer.status_code >= 500:
            away.note(HostError(f"status {answer.status_code}"), job["id"])
            continue
        away, job = _Away(service.clock), _accepted(answer)
    if job["state"] != "done":
        raise HostError(f"job {job['id']} {job['state']}: {job['error'] or 'nothing more is known'}")
    return job


def _cancel(service: _Service, job_id: str) -> None:
    try:
        service.call("POST", f"/v1/jobs/{job_id}/cancel")
    except httpx.TransportError as error:
        service.tell(f"job {job_id} could not be cancelled, so it goes on: {error}")


def _fetched_or_away(service: _Service, job: dict[str, Any], file: Path, away: _Away) -> FleetResult | None:
    """Fetch the result of a job, or return None while the service does not answer."""
    try:
        return _fetched(service, job, file)
    except httpx.TransportError as error:
        away.note(error, job["id"])
        service.tell(f"the service is away; the file of job {job['id'][:14]} is fetched when it is back")
        return None


def _fetched(service: _Service, job: dict[str, Any], file: Path) -> FleetResult:
    """Fetch the result of a job, whole or not at all. Raises httpx.TransportError, HostError."""
    result = job["result"]
    receipt = _document(service.call("GET", result["receipt_url"]))
    with staged_pair(file, sidecar(file)) as staged:
        digest = hashlib.sha256()
        with service.http.stream("GET", f"{service.address.address}{result['url']}") as answer:
            if answer.status_code != 200:
                raise HostError(f"the file of job {job['id']} cannot be fetched: status {answer.status_code}")
            with staged.open("wb") as stream:
                for piece in answer.iter_bytes(1 << 20):
                    service.check()
                    digest.update(piece)
                    stream.write(piece)
        expected = result["sha256"].partition(":")[2] or result["sha256"]
        if not result["sha256"].startswith("sampled-") and digest.hexdigest() != expected:
            raise HostError(f"the file of job {job['id']} arrived damaged; fetch it again")
        sidecar(staged).write_text(json.dumps(receipt, indent=2, ensure_ascii=False), encoding="utf-8")
    return FleetResult(file, job, receipt)


def _line(job: Mapping[str, Any]) -> str:
    progress = job["progress"]
    if job["state"] == "running" and progress and progress["stage"]:
        return f"{progress['stage']} {progress['done']} of {progress['total']} on {job['place']}"
    return f"{job['state']} at the fleet, job {job['id'][:14]}"


def _message(answer: httpx.Response) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(answer.json()["error"]["message"])[:500]
    return f"status {answer.status_code}"


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        raise HostError(f"no answer of a wan-duet serve: status {answer.status_code}") from None
    if not isinstance(said, dict):
        raise HostError("no answer of a wan-duet serve")
    return said
