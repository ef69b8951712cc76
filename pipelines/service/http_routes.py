"""The calls of the service, as data: the server registers them, and its OpenAPI document says them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROUTES", "HttpRoute"]

_REFUSED = (401, 404)


@dataclass(frozen=True)
class HttpRoute:
    """One call.

    name:    of the function that answers it, and its operationId.
    body:    "job" or "video", the form that it takes; "" for none.
    answer:  "job", "jobs", "video", "videos", "deleted", "file", "receipt", "health" or "openapi".
    success: statuses of that answer. errors: statuses of an error.
    query:   names of the parameters in the address.
    is_open: needs no key.
    """

    method: str
    path: str
    name: str
    summary: str
    answer: str
    success: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = _REFUSED
    body: str = ""
    query: tuple[str, ...] = ()
    is_open: bool = False


_POST = (400, 401, 402, 413, 415, 422, 429)
_NOT_NOW = (401, 404, 409)  # of calls that a job takes in some states only

ROUTES: tuple[HttpRoute, ...] = (
    HttpRoute(
        "POST",
        "/v1/jobs",
        "post_job",
        "Accept a request as a job.",
        "job",
        success=(200, 202),
        errors=_POST,
        body="job",
        query=("webhook_url",),
    ),
    HttpRoute(
        "GET",
        "/v1/jobs",
        "list_jobs",
        "List the jobs of this key, the newest first.",
        "jobs",
        errors=(400, 401, 404),
        query=("limit", "after"),
    ),
    HttpRoute("GET", "/v1/jobs/{job_id}", "get_job", "Say how far a job is.", "job"),
    HttpRoute(
        "POST",
        "/v1/jobs/{job_id}/cancel",
        "cancel_job",
        "Cancel a job that waits or runs.",
        "job",
        errors=_NOT_NOW,
    ),
    HttpRoute(
        "DELETE",
        "/v1/jobs/{job_id}",
        "delete_job",
        "Cancel a job if it is open, and remove it with its files.",
        "deleted",
        errors=_NOT_NOW,
    ),
    HttpRoute("GET", "/v1/jobs/{job_id}/result", "get_result", "Fetch the file.", "file", errors=_NOT_NOW),
    HttpRoute(
        "GET",
        "/v1/jobs/{job_id}/receipt",
        "get_receipt",
        "Fetch the receipt.",
        "receipt",
        errors=_NOT_NOW,
    ),
    HttpRoute(
        "POST",
        "/v1/videos",
        "post_video",
        "Accept a request in the form of OpenAI's video API.",
        "video",
        errors=_POST,
        body="video",
        query=("webhook_url",),
    ),
    HttpRoute(
        "GET",
        "/v1/videos",
        "list_videos",
        "List the jobs of this key in that form.",
        "videos",
        errors=(400, 401, 404),
        query=("limit", "after"),
    ),
    HttpRoute("GET", "/v1/videos/{job_id}", "get_video", "Say how far a job is, in that form.", "video"),
    HttpRoute(
        "DELETE",
        "/v1/videos/{job_id}",
        "delete_video",
        "Cancel a job if it is open, and remove it with its files.",
        "deleted",
        errors=_NOT_NOW,
    ),
    HttpRoute(
        "GET",
        "/v1/videos/{job_id}/content",
        "get_content",
        "Fetch the file.",
        "file",
        errors=(400, 401, 404, 409),
        query=("variant",),
    ),
    HttpRoute(
        "GET", "/health", "get_health", "Say that the service runs.", "health", errors=(503,), is_open=True
    ),
    HttpRoute("GET", "/openapi.json", "get_openapi", "This document.", "openapi", errors=(), is_open=True),
)
