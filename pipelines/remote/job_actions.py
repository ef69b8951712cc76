"""What a user sees of the jobs in the journal and does with them, on the command line and in ComfyUI."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import JournalError
from .job_record import Job
from .journal import Journal
from .owner_lock import OwnerLock
from .spending import read_spending
from .spending_limits import start_of_day

__all__ = [
    "cancel_job",
    "cost_text",
    "forget_job",
    "job_facts",
    "money_of_today",
    "open_again",
    "open_journal",
]

_MAY_BRING_A_FILE = ("submitting", "submitted", "running")


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal in `folder`, closed at the end. Raises JournalError."""
    journal = Journal(folder / "jobs.sqlite", time.time)
    try:
        yield journal
    finally:
        journal.close()


def cancel_job(folder: Path, beginning: str) -> Job:
    """Note that the job is to be stopped; whoever works on it will do so. beginning: of its id."""
    with open_journal(folder) as journal:
        job = journal.find(beginning)
        journal.ask_to_stop(job.job_id)
        return journal.job(job.job_id)


def open_again(folder: Path, beginning: str, out: Path | None) -> Job:
    """Open a failed or lost job again, to ask about it once more. beginning: of its id.

    out: a new place for the file of a job that is not done.
    """
    with open_journal(folder) as journal:
        job = journal.reopen(journal.find(beginning).job_id)
        if out is not None:
            journal.deliver_to(job.job_id, out)
        return job


def forget_job(folder: Path, beginning: str) -> Job:
    """Remove the job from the journal; returns what was removed. beginning: of its id.

    Raises JournalError while the job may still bring a file, or somebody works on it.
    """
    with open_journal(folder) as journal:
        job = journal.find(beginning)
        if job.state in _MAY_BRING_A_FILE:
            raise JournalError(
                f"job {job.job_id[:8]} is {job.state} and may bring a file; `wan-duet jobs cancel` it first"
            )
        if _is_worked_on(job, folder):
            raise JournalError(f"job {job.job_id[:8]} is worked on by another process; stop that one first")
        journal.forget(job.job_id)
    return job


def money_of_today(journal: Journal, folder: Path, now: float) -> dict[str, Any]:
    """US dollars spent since midnight, how many jobs of unknown price are not in it, and the limits (None for
    no limit); ready for JSON. now: seconds since 1970.
    """
    spent, limits = journal.spent(start_of_day(now)), read_spending(folder).limits
    return {
        "spent_usd": spent.usd,
        "jobs_of_unknown_price": spent.jobs_of_unknown_price,
        "per_run_usd": limits.per_run_usd,
        "per_day_usd": limits.per_day_usd,
    }


def job_facts(job: Job) -> dict[str, Any]:
    """What is worth showing, ready for JSON; empty facts are left out."""
    facts = {
        "job": job.job_id,
        "provider": job.provider,
        "account": job.account,
        "endpoint": job.endpoint,
        "state": job.state,
        "stopping": job.is_open and job.stop_asked,
        "request_id": job.request_id,
        "created": _moment(job.created_at),
        "sent": _moment(job.sent_at),
        "closed": _moment(job.closed_at),
        "money": job.money,
        "estimate": job.price_text,
        "charged_usd": job.charged,
        "file": job.file_path,
        "sha256": job.sha256,
        "error": job.error,
        "payload": json.loads(job.payload_json),
        "addresses": [] if job.outcome_json is None else [file.url for file in job.outcome.files],
    }
    return {name: value for name, value in facts.items() if value not in (None, False, [])}


def cost_text(job: Job) -> str:
    """What the job costs or did cost, in a few words."""
    if job.charged is not None:
        return f"${job.charged:.4f} charged"
    if job.money == "none spent" and not job.is_open:
        return "none spent"
    return job.price_text.partition(" (")[0]


def _is_worked_on(job: Job, folder: Path) -> bool:
    owner = OwnerLock(folder / "owners")
    try:
        return job.is_open and job.owner is not None and owner.is_alive(job.owner)
    finally:
        owner.retire()


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
