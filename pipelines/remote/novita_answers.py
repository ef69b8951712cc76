"""Interprets Novita's answers."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

from .attempts import ErrorDetails
from .provider import JobStatus, RemoteFile
from .redaction import one_line

__all__ = ["explain", "read_files", "read_seed", "read_status"]

log = logging.getLogger(__name__)

_STATES: Mapping[str, Literal["queued", "running", "completed", "failed"]] = {
    "TASK_STATUS_QUEUED": "queued",
    "TASK_STATUS_PROCESSING": "running",
    "TASK_STATUS_SUCCEED": "completed",
    "TASK_STATUS_FAILED": "failed",
}


def read_status(data: Mapping[str, Any]) -> JobStatus:
    task = data.get("task")
    task = task if isinstance(task, dict) else {}
    word = str(task.get("status"))
    if word not in _STATES:
        log.warning("Novita reports the unknown status %s; waiting", one_line(word, 40))
    state = _STATES.get(word, "running")
    reason = task.get("reason")
    return JobStatus(
        state,
        percent=_number(task.get("progress_percent")) if state == "running" else None,
        eta_s=_number(task.get("eta")) if state == "running" else None,
        error=one_line(str(reason)) if state == "failed" and reason else None,
    )


def read_files(data: Mapping[str, Any], now: float) -> list[RemoteFile]:
    """The signed addresses of one answer, which end with their signature. now: seconds since 1970."""
    files = []
    for kind in ("video", "image"):
        listed = data.get(f"{kind}s")
        for file in listed if isinstance(listed, list) else ():
            if not isinstance(file, dict) or not isinstance(file.get(f"{kind}_url"), str):
                continue
            life_s = _number(file.get(f"{kind}_url_ttl"))
            word = file.get(f"{kind}_type")
            files.append(
                RemoteFile(
                    file[f"{kind}_url"],
                    content_type=f"{kind}/{word}" if isinstance(word, str) and word.isalnum() else None,
                    expires_at=now + life_s if life_s is not None and life_s > 0 else None,
                )
            )
    return files


def read_seed(data: Mapping[str, Any]) -> int | None:
    """Return the seed, or None. Novita sends it as text, and -1 if it does not tell it."""
    extra = data.get("extra")
    seed = _number(extra.get("seed")) if isinstance(extra, dict) else None
    return None if seed is None or seed < 0 else int(seed)


def _number(value: object) -> float | None:
    """Return the number that a number or a text means, or None. Novita's pages document both forms."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def explain(data: Mapping[str, Any]) -> ErrorDetails | None:
    reason, message = data.get("reason"), data.get("message")
    if not isinstance(reason, str) and not isinstance(message, str):
        return None
    code = reason if isinstance(reason, str) else None
    text = one_line(message) if isinstance(message, str) and message else ""
    return ErrorDetails(" ".join(part for part in (text, f"({code})" if code else "") if part), None, code)
