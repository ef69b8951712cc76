"""Holds what the jobs of this journal cost and took against what was expected, per endpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ..request.prices import PriceTable
from .job_actions import open_journal
from .job_record import Job
from .spending import Spending, read_spending

__all__ = ["known_spending", "with_experience"]

_JOBS = 20  # the latest of each endpoint: prices change


def known_spending(folder: Path) -> Spending:
    """Return the user's limits, and the prices with what the jobs in `folder` cost and took.

    Raises as `read_spending`, and JournalError for a journal that cannot be read.
    """
    spending = read_spending(folder)
    if not (folder / "jobs.sqlite").exists():
        return spending
    with open_journal(folder) as journal:
        return replace(spending, prices=with_experience(spending.prices, journal.jobs()))


def with_experience(prices: PriceTable, jobs: Iterable[Job]) -> PriceTable:
    """Return `prices` with two more entries for endpoints that have finished jobs (oldest first):

    charged: {"jobs": their number, "ratio": the median of charge / estimate}, where both are known.
    seconds: the median time from the submit until the job was seen completed.
    """
    done: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.state == "done":
            done[job.endpoint].append(job)
    learned = {endpoint: _learned(of_endpoint[-_JOBS:]) for endpoint, of_endpoint in done.items()}
    return {**prices, **{name: {**prices.get(name, {}), **more} for name, more in learned.items()}}


def _learned(jobs: Sequence[Job]) -> dict[str, Any]:
    ratios = [job.charged / job.price_usd for job in jobs if job.charged is not None and job.price_usd]
    spans = [
        job.completed_at - job.sent_at
        for job in jobs
        if job.sent_at is not None and job.completed_at is not None and job.completed_at >= job.sent_at
    ]
    learned: dict[str, Any] = {}
    if ratios:
        learned["charged"] = {"jobs": len(ratios), "ratio": median(ratios)}
    if spans:
        learned["seconds"] = median(spans)
    return learned
