"""Interprets fal's answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from .attempts import CallFailedError, ErrorDetails
from .provider import JobStatus, RemoteFile
from .redaction import one_line

__all__ = ["explain", "is_of_the_model", "read_files", "read_status"]

log = logging.getLogger(__name__)

_STATES: Mapping[str, Literal["queued", "running"]] = {"IN_QUEUE": "queued", "IN_PROGRESS": "running"}


def read_status(data: Mapping[str, Any]) -> JobStatus:
    word, error = str(data.get("status")), data.get("error")
    logs = data.get("logs")
    lines = tuple(
        one_line(entry["message"])
        for entry in (logs if isinstance(logs, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("message"), str)
    )
    if word == "COMPLETED":
        if error:
            kind = data.get("error_type")
            return JobStatus(
                "failed", log_lines=lines, error=one_line(f"{error} ({kind})" if kind else str(error))
            )
        return JobStatus("completed", log_lines=lines)
    if word not in _STATES:
        log.warning("fal reports the unknown status %s; waiting", one_line(word, 40))
    position = data.get("queue_position")
    return JobStatus(
        _STATES.get(word, "running"),
        queue_position=position if isinstance(position, int) else None,
        log_lines=lines,
    )


def read_files(data: Mapping[str, Any]) -> list[RemoteFile]:
    found = [data.get(name) for name in ("video", "image", "lora_file")]
    for several in (data.get("videos"), data.get("images")):
        found += several if isinstance(several, list) else []
    files = []
    for file in found:
        if isinstance(file, dict) and isinstance(file.get("url"), str):
            kind, size = file.get("content_type"), file.get("file_size")
            files.append(
                RemoteFile(
                    file["url"],
                    kind if isinstance(kind, str) else None,
                    size if isinstance(size, int) and size >= 0 else None,
                )
            )
    return files


def explain(data: Mapping[str, Any]) -> ErrorDetails | None:
    """Return the details of an error of fal: a list of problems with positions, or one text."""
    detail, code = data.get("detail"), data.get("error_type")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        first = detail[0]
        message = "; ".join(
            one_line(str(item.get("msg", item))) for item in detail[:3] if isinstance(item, dict)
        )
        return ErrorDetails(message, _place(first.get("loc")), str(first.get("type") or "unknown"))
    if isinstance(detail, str):
        return ErrorDetails(one_line(detail), None, code if isinstance(code, str) else None)
    return None


def _place(loc: object) -> str | None:
    """Return ["body", "loras", 0, "path"] as loras[0].path, like the rest of the program."""
    if not isinstance(loc, list):
        return None
    parts = loc[1:] if loc[:1] == ["body"] else loc
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return one_line(text.removeprefix("."), 80) or None


def is_of_the_model(failed: CallFailedError) -> bool:
    """Return whether an error answer is the result of the job: a failed job may return its error there.

    Only fal's own statement counts: the header X-Fal-Error-Type, a list of faults, or an error_type. A
    gateway that is down answers with the same statuses, and a paid result must not be given up for that.
    """
    status, details = failed.status, failed.details
    if status not in (400, 422, 499) and not (status is not None and status >= 500):
        return False
    if "x-fal-error-type" in failed.headers:
        return status != 400  # not finished yet
    if details is None or details.code is None:
        return False
    return status in (422, 499, 500, 504) or details.field is not None
