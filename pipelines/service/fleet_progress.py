"""Says how far the jobs of *Run Fleet* are at its `wan-duet serve`, in the words of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ..errors import HostError, WanDuetError
from ..fleet.batch_progress import BatchProgress, left_of
from ..fleet.found_batches import told_batch, without_folders
from ..fleet.worker import work_of_fields
from .fleet_address import has_fleet, read_address_of_fleet
from .service_client import newest_jobs

__all__ = ["MOST_JOBS", "fleet_progress"]

MOST_JOBS = 100  # one answer of the service


@dataclass(frozen=True)
class _JobRow:
    """A job as a `ProgressRow`."""

    name: str
    state: str
    attempt: int
    place: str | None
    seconds: float
    work: float
    error: str | None
    updated_at: float
    usd: float
    line: int = 0
    cause: str | None = None
    batch: str = ""


def fleet_progress(
    folder: Path, now: float, transport: httpx.BaseTransport | None = None
) -> dict[str, Any] | None:
    """Return how far the newest MOST_JOBS jobs of this key are, as `told_batch`. None without an address.

    folder: of fleet.json. now: seconds since 1970. A service that is away, or refuses, has only a problem.
    """
    if not has_fleet(folder):
        return None
    name = "Run Fleet"
    try:
        address = read_address_of_fleet(folder)
        name = f"Run Fleet at {httpx.URL(address.address).netloc.decode()} (newest {MOST_JOBS} jobs)"
        rows = [_row(job) for job in newest_jobs(address, MOST_JOBS, transport)]
    except WanDuetError as error:
        return {"batch": name, "problem": without_folders(str(error))}
    # A service without a price of its hours says 0.
    prices = [row.usd for row in rows if row.state == "done" and row.usd]
    return told_batch(name, BatchProgress(rows, True, left_of(rows), now, prices))


def _row(job: Mapping[str, Any]) -> _JobRow:
    try:
        return _JobRow(
            name=str(job["id"]),
            state=str(job["state"]),
            attempt=int(job["attempt"]),
            place=job["place"],
            seconds=float(job["seconds"]),
            work=work_of_fields(job["request"]),
            error=job["error"],
            updated_at=float(job["started_at"] or job["created_at"]),
            usd=float(job["usd"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise HostError("no answer of a wan-duet serve") from None
