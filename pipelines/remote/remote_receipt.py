"""The receipt of a remote run, made only from the row of its job, so that a restart writes the same one."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from ..version import VERSION
from .job_record import Job
from .stored_form import stored_form

__all__ = ["remote_receipt"]

_FORMAT = 1


def remote_receipt(job: Job) -> dict[str, Any]:
    """Return the request, the result and the price of a completed job, as JSON values.

    Uploaded files are named by hash: a receipt is passed on with its video, and everyone who has the address
    of an upload can read it.
    """
    about = json.loads(job.about_json)
    about.pop("workflow", None)  # for the jobs panel: it may be as large as the graph it is a part of
    return {
        "wan_duet": VERSION,
        "format": _FORMAT,
        "runner": job.provider,
        **about,
        "seed": job.seed,
        "prompt": job.prompt,
        "job": {
            "job_id": job.job_id,
            "request_id": job.request_id,
            "endpoint": job.endpoint,
            "sent": json.loads(job.payload_json),
            "sent_at": _moment(job.sent_at),
            "answer": stored_form(job.outcome.raw),
        },
        "price": {"estimate": job.price_text, "estimate_usd": job.price_usd, "charged_usd": job.charged},
    }


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
