"""Answers the calls of clients. The work is done elsewhere: the queue keeps jobs, lanes carry them out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.typedefs import Handler

from ..errors import JournalError, LoraError, RequestError, ServiceError, WanDuetError
from ..files.on_disk import discard
from ..fleet.batch_folder import BatchFolder
from ..plan.families import Family
from ..request.base import WanRequest
from ..request.parse import read_json
from ..version import VERSION
from ..video.local_file import data_uri
from ..video.output import sidecar
from .admission import Admission
from .client_keys import ServiceClient, client_of
from .http_routes import ROUTES, HttpRoute
from .job_queue import JobQueue, PostedJob
from .lane import Lane
from .openapi_document import openapi_document
from .posted_request import openai_job, posted_job, require_webhook
from .served_job import ServedJob
from .service_answers import error_document, job_document, media_type_of, status_of, video_document

__all__ = ["HttpService", "application"]

log = logging.getLogger(__name__)

_LARGEST_BYTES = 64 << 20  # of a body: an input image, or a minute of sound
_KEY_LENGTH = 255
_LIMIT = 20
_MOST = 100


@dataclass(frozen=True)
class HttpService:
    """What all calls need.

    clients: returns those that may call. check: raises an error if a request cannot run here.
    lanes:   added once their threads run. kind: of a request that does not say its own.
    """

    queue: JobQueue
    folder: BatchFolder
    admission: Admission
    clients: Callable[[], list[ServiceClient]]
    check: Callable[[WanRequest], object]
    lanes: Sequence[Lane]
    model: str
    family: Family
    kind: str
    allow_loopback: bool = False

    def accept(
        self, client: ServiceClient, posted: Callable[[], PostedJob], key: str | None
    ) -> tuple[ServedJob, bool]:
        """Check a posted request and write it into the queue. Returns its job, and whether it was there.

        posted: makes the job from what was sent. Raises ServiceError, RequestError.
        """
        self.admission.count_call(client)
        if self.queue.keyed(client.name, key) is None:
            self.admission.require_room(client)
        job = posted()
        if self.queue.keyed(client.name, key) is None:
            self._require_possible(job.request)
        found = self.queue.accept(client.name, job, key, lambda: self.admission.require_room(client))
        for lane in self.lanes:
            lane.wake()
        return found

    def _require_possible(self, request: WanRequest) -> None:
        """Raise RequestError if the request cannot run, also for what a file says that it names."""
        try:
            self.check(request)
        except (RequestError, JournalError):
            raise
        except LoraError as error:
            fix = "name a LoRA that this service has"
            raise RequestError.of("loras", str(error).removeprefix("loras: "), fix) from error
        except (WanDuetError, OSError) as error:
            raise RequestError.of("request", str(error), "correct the request") from error

    def progress_of(self, job: ServedJob) -> dict[str, Any] | None:
        """Return how far a running job is, or None."""
        lane = self._lane_of(job) if job.state == "running" else None
        return None if lane is None else lane.progress.document()

    def wake(self, job: ServedJob) -> None:
        """Let the lane of a job look whether it was cancelled."""
        if (lane := self._lane_of(job)) is not None:
            lane.wake()

    def _lane_of(self, job: ServedJob) -> Lane | None:
        """Return the lane that runs a job. It may end meanwhile."""
        for lane in self.lanes:
            running = lane.job
            if running is not None and running.name == job.name:
                return lane
        return None

    def remove(self, job: ServedJob) -> None:
        """Cancel a job if it is open, forget it, and remove its files.

        Raises ServiceError while they move into place.
        """
        if job.state in ("waiting", "running"):
            self.wake(self.queue.cancel(job))
        self.queue.delete(job)
        if job.file is not None:
            for file in (self.folder.path / job.file, sidecar(self.folder.path / job.file)):
                discard(file)


_SERVICE: web.AppKey[HttpService] = web.AppKey("service", HttpService)
_NOBODY = ServiceClient("", "")  # calls whoever needs no key


@dataclass(frozen=True)
class _Call:
    """One call of a client."""

    http: web.Request
    service: HttpService
    client: ServiceClient


def application(service: HttpService) -> web.Application:
    """Return the aiohttp application of the service."""
    app = web.Application(middlewares=[_errors_as_json], client_max_size=_LARGEST_BYTES)
    app[_SERVICE] = service
    for route in ROUTES:
        app.router.add_route(route.method, route.path, _answering(route))
    return app


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _refusal(error.status, error.reason, error.reason.lower().replace(" ", "_"), headers=allow)
    except ServiceError as error:
        retry = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        return _refusal(error.status, str(error), error.code, error, retry)
    except RequestError as error:
        return _refusal(status_of(error), str(error), "invalid_request", error)
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return _refusal(500, "a fault of this service; its log says more", "internal_error")


def _answering(route: HttpRoute) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the aiohttp handler of a call."""

    async def answer(http: web.Request) -> web.StreamResponse:
        service = http.app[_SERVICE]
        client = _NOBODY if route.is_open else await _client_of(http, service)
        return await _HANDLERS[route.name](_Call(http, service, client))

    return answer


async def _client_of(http: web.Request, service: HttpService) -> ServiceClient:
    """Return the client of a call. Raises ServiceError without a key that is known."""
    scheme, _, key = http.headers.get("Authorization", "").partition(" ")
    clients = await asyncio.to_thread(service.clients)
    client = client_of(key.strip(), clients) if scheme.lower() == "bearer" else None
    if client is None:
        message = "give a valid key: Authorization: Bearer KEY"
        raise ServiceError(message, status=401, code="invalid_api_key")
    return client


async def _post_job(call: _Call) -> web.Response:
    service = call.service
    if call.http.content_type != "application/json":
        raise _unsupported("application/json")
    body = await call.http.read()
    webhook = _webhook(call)
    job, known = await asyncio.to_thread(
        service.accept, call.client, lambda: posted_job(read_json(body), service.kind, webhook), _key(call)
    )
    headers = {"Location": f"/v1/jobs/{job.name}", **({"Idempotent-Replayed": "true"} if known else {})}
    return _json(job_document(job, service.progress_of(job)), 200 if known else 202, headers)


async def _post_video(call: _Call) -> web.Response:
    service = call.service
    form = await _video_form(call)
    webhook = _webhook(call)

    def posted() -> PostedJob:
        values = read_json(form) if isinstance(form, bytes) else form
        job = openai_job(values, service.model, service.family)
        return PostedJob(job.request, job.about, webhook)

    job, known = await asyncio.to_thread(service.accept, call.client, posted, _key(call))
    headers = {"Idempotent-Replayed": "true"} if known else {}
    return _json(video_document(job, service.model, service.progress_of(job)), headers=headers)


async def _list_jobs(call: _Call) -> web.Response:
    found, more = await _listed(call)
    service = call.service
    jobs = [job_document(job, service.progress_of(job)) for job in found]
    return _json({"object": "list", "data": jobs, "has_more": more})


async def _list_videos(call: _Call) -> web.Response:
    found, more = await _listed(call)
    service = call.service
    videos = [video_document(job, service.model, service.progress_of(job)) for job in found]
    return _json({"object": "list", "data": videos, "has_more": more})


async def _get_job(call: _Call) -> web.Response:
    job = await _job(call)
    return _json(job_document(job, call.service.progress_of(job)))


async def _get_video(call: _Call) -> web.Response:
    job, service = await _job(call), call.service
    return _json(video_document(job, service.model, service.progress_of(job)))


async def _cancel_job(call: _Call) -> web.Response:
    job, service = await _job(call), call.service
    cancelled = await asyncio.to_thread(service.queue.cancel, job)
    service.wake(cancelled)
    return _json(job_document(cancelled))


async def _delete_job(call: _Call) -> web.Response:
    return await _delete(call, "job.deleted")


async def _delete_video(call: _Call) -> web.Response:
    return await _delete(call, "video.deleted")


async def _get_result(call: _Call) -> web.StreamResponse:
    file = await _file(call)
    return web.FileResponse(file, headers={"Content-Type": media_type_of(file.name)})


async def _get_content(call: _Call) -> web.StreamResponse:
    if call.http.query.get("variant", "video") != "video":
        raise RequestError.of("variant", "only the video is kept", "give video, or leave it out")
    return await _get_result(call)


async def _get_receipt(call: _Call) -> web.StreamResponse:
    return web.FileResponse(sidecar(await _file(call)), headers={"Content-Type": "application/json"})


async def _get_health(call: _Call) -> web.Response:
    service = call.service
    if not any(lane.is_alive for lane in service.lanes):
        raise ServiceError("no worker runs; see the log", status=503, code="no_worker")
    waiting = await asyncio.to_thread(service.queue.waiting)
    said = {"status": "ok", "version": VERSION, "model": service.model}
    return _json({**said, "waiting": waiting, "lanes": len(service.lanes)})


async def _get_openapi(call: _Call) -> web.Response:
    return _json(openapi_document(call.service.kind))


_HANDLERS: Mapping[str, Callable[[_Call], Awaitable[web.StreamResponse]]] = {
    route.name: globals()[f"_{route.name}"] for route in ROUTES
}


async def _delete(call: _Call, said: str) -> web.Response:
    job = await _job(call)
    await asyncio.to_thread(call.service.remove, job)
    return _json({"id": job.name, "object": said, "deleted": True})


async def _job(call: _Call) -> ServedJob:
    queue, name = call.service.queue, call.http.match_info["job_id"]
    return await asyncio.to_thread(queue.find, call.client.name, name)


async def _file(call: _Call) -> Path:
    """Return the file of a finished job. Raises ServiceError if there is none."""
    job, service = await _job(call), call.service
    if job.state != "done" or job.file is None:
        message = f"job {job.name} is {job.state}, so it has no result" + (
            f": {job.error}" if job.error else ""
        )
        raise ServiceError(message, status=409, code="no_result")
    if not await asyncio.to_thread(service.folder.holds, job):
        raise ServiceError("the file of this job was removed from the service", status=404, code="file_lost")
    return service.folder.path / job.file


async def _listed(call: _Call) -> tuple[list[ServedJob], bool]:
    text = call.http.query.get("limit", str(_LIMIT))
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _MOST):
        raise RequestError.of("limit", f"got {text[:40]!r}", f"give 1 to {_MOST}")
    limit, queue = int(text), call.service.queue
    found = await asyncio.to_thread(queue.jobs, call.client.name, limit + 1, call.http.query.get("after"))
    return found[:limit], len(found) > limit


async def _video_form(call: _Call) -> bytes | dict[str, Any]:
    """Return the JSON body, or the fields of a form; a file in it becomes a data URI."""
    if call.http.content_type == "application/json":
        return await call.http.read()
    if call.http.content_type != "multipart/form-data":
        raise _unsupported("application/json or multipart/form-data")
    values: dict[str, Any] = {}
    try:
        parts = await call.http.multipart()
        while (part := await parts.next()) is not None:
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise RequestError.of("form", "a part without a name", "give each part the name of its field")
            if part.name in values:
                raise RequestError.of(part.name[:80], "given twice", "keep one of the two")
            values[part.name] = await _part(part)
    except (ValueError, AssertionError) as error:
        raise RequestError.of("form", f"not multipart/form-data: {str(error)[:120]}", "send a form") from None
    return values


async def _part(part: BodyPartReader) -> str:
    content = bytearray()
    while chunk := await part.read_chunk():
        content += chunk
        if len(content) > _LARGEST_BYTES:
            raise web.HTTPRequestEntityTooLarge(_LARGEST_BYTES, len(content))
    if part.name == "input_reference" and part.filename is not None:
        media_type = part.headers.get("Content-Type", "application/octet-stream").partition(";")[0]
        return data_uri(bytes(content), media_type)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RequestError.of(str(part.name)[:80], "not UTF-8", "send text as UTF-8") from None


def _webhook(call: _Call) -> str | None:
    url = call.http.query.get("webhook_url")
    return None if url is None else require_webhook(url, allow_loopback=call.service.allow_loopback)


def _key(call: _Call) -> str | None:
    key = call.http.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= _KEY_LENGTH:
        raise RequestError.of("Idempotency-Key", f"{len(key)} characters", f"give 1 to {_KEY_LENGTH}")
    return key


def _unsupported(wanted: str) -> ServiceError:
    return ServiceError(f"Content-Type: send {wanted}", status=415, code="unsupported_media_type")


def _json(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    text = json.dumps(document, ensure_ascii=False)
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def _refusal(
    status: int,
    message: str,
    code: str,
    error: WanDuetError | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return _json(error_document(message, code, error), status, {**(headers or {}), **challenge})
