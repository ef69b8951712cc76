"""What the service says of a job, in our form and in that of OpenAI's video API, and of an error."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from ..errors import RequestError, ServiceError, WanDuetError
from ..remote.stored_form import stored_form
from .served_job import ServedJob

__all__ = ["MEDIA_TYPES", "error_document", "job_document", "media_type_of", "status_of", "video_document"]

MEDIA_TYPES = {  # of results
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}
_OPENAI_STATES = {
    "waiting": "queued",
    "running": "in_progress",
    "publishing": "in_progress",
    "done": "completed",
    "failed": "failed",
    "cancelled": "failed",
}
_SAMPLING = "sampling"  # the stage that takes most of the time; stages before it count as nothing


def media_type_of(file: str) -> str:
    """Return the media type of a result by its name."""
    return MEDIA_TYPES[PurePath(file).suffix]


def job_document(job: ServedJob, progress: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a job in our form. progress: of its lane; None unless it runs."""
    at = f"/v1/jobs/{job.name}"
    done = job.state == "done" and job.file is not None
    result = (
        {
            "url": f"{at}/result",
            "receipt_url": f"{at}/receipt",
            "media_type": media_type_of(job.file),
            "size_bytes": job.size_bytes,
            "sha256": job.sha256,
            "frames_sha256": job.frames_sha256,
        }
        if done and job.file is not None
        else None
    )
    webhook = {"url": stored_form(job.webhook_url), "state": job.webhook_state, "tries": job.webhook_tries}
    return {
        "id": job.name,
        "object": "job",
        "kind": job.kind,
        "state": job.state,
        "place": job.place,
        "attempt": job.attempt,
        "seed": int(job.seed),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "seconds": job.seconds,
        "usd": job.usd,
        "progress": progress,
        "error": job.error,
        "result": result,
        "webhook": None if job.webhook_url is None else webhook,
        "request": stored_form(json.loads(job.request_json)),
    }


def video_document(job: ServedJob, model: str, progress: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a job in the form of OpenAI's video API."""
    about = json.loads(job.about_json)
    failed = {
        "code": "cancelled" if job.state == "cancelled" else "failed",
        "message": job.error or job.state,
    }
    return {
        "id": job.name,
        "object": "video",
        "created_at": int(job.created_at),
        "completed_at": None if job.state != "done" or job.ended_at is None else int(job.ended_at),
        "expires_at": None,
        "status": _OPENAI_STATES[job.state],
        "progress": _percent(job, progress),
        "model": model,
        "prompt": json.loads(job.request_json).get("prompt"),
        "seconds": about.get("seconds"),
        "size": about.get("size"),
        "remixed_from_video_id": None,
        "error": failed if job.state in ("failed", "cancelled") else None,
    }


def status_of(error: WanDuetError) -> int:
    """Return the HTTP status of an error. What a client cannot correct is 500."""
    if isinstance(error, ServiceError):
        return error.status
    return 400 if isinstance(error, RequestError) else 422


def error_document(message: str, code: str, error: WanDuetError | None = None) -> dict[str, Any]:
    """Return an error in OpenAI's form, with every wrong field in `problems`."""
    problems = error.problems if isinstance(error, RequestError) else ()
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error" if isinstance(error, RequestError) else code,
            "param": problems[0].field if problems else None,
            "code": code,
            "problems": [vars(problem) for problem in problems],
        }
    }


def _percent(job: ServedJob, progress: dict[str, Any] | None) -> int:
    if job.state == "done":
        return 100
    if progress is None or progress["stage"] not in (_SAMPLING, "decoding"):
        return 0
    if progress["stage"] == "decoding":
        return 99
    return int(99 * progress["done"] / max(progress["total"], 1))
