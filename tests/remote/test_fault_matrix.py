"""Every fault in every call of a whole job: at most one job is ever made, and what was made is not forgotten.

pytest -s tests/remote/test_fault_matrix.py     prints the table
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import RemoteError
from wan_duet.pipelines.remote.download import Caps
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.job_event import JobEvent
from wan_duet.pipelines.remote.job_record import Job
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.novita import Novita
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.request import parse

from ..servers.cdn import DOWNLOADS
from ..servers.fal import FalServer
from ..servers.faults import ANSWERS, CHANGES, FAULTS
from ..servers.novita import NovitaServer
from .clients import FAL_KEY, FILM, NOVITA_KEY, bought, fal_at, novita_at
from .conftest import FastClock

CALLS = {
    "fal": ("initiate", "upload", "submit", "status", "result", "cancel", "list", "download"),
    "novita": ("submit", "status", "download"),
}
REFUSALS = {"400", "401", "403", "404", "409", "422"}
SURELY_NO_JOB = {*REFUSALS, "425", "429", "429 wait", "create failed"}
ALWAYS = (
    *FAULTS,
    "403",
    "404",
    "408",
    "422",
    "429 wait",
    "500",
    "503 page",
    "503 json",
    "not json",
    "huge json",
)
# What is not got over by asking again: an answer that is wrong, but not a fault that can be seen.
LASTING = {
    "upload": {"cut json", "not json", "huge json"},  # says yes and keeps nothing
    "download": {"not json", "huge json", "endless", "too long", "page", "squeezed"}
    | {name for name in DOWNLOADS if "redirect" in name},
    "status": {"failed"},
}


@dataclass(frozen=True)
class Cell:
    provider: str
    call: str
    fault: str
    after: bool = False

    @property
    def passes(self) -> bool:
        """Whether the job has to end as if nothing had happened."""
        if self.call == "submit":
            return self.after and self.provider == "fal"  # fal lists what it has made
        lasting = self.fault in REFUSALS | LASTING.get(self.call, set())
        return self.call != "cancel" and not lasting


@dataclass(frozen=True)
class Seen:
    """What became of a cell. error: as the user reads it."""

    cell: Cell
    jobs: int
    row: Job
    file_is_whole: bool
    error: str

    def broken_promises(self) -> Iterator[str]:
        if self.jobs > 1:
            yield f"{self.jobs} jobs were made"
        if self.jobs == 1 and self.row.money == "none spent":
            yield "a job exists, and nothing is said to be spent"
        if (self.row.state == "done") != self.file_is_whole:
            yield "the row and the file do not agree"
        if self.row.state != "done" and not self.error:
            yield "there is neither a file nor a message"
        if self.cell.passes and self.row.state != "done":
            yield "the fault was not got over"

    def line(self) -> str:
        when = f"{self.cell.fault} (after)" if self.cell.after else self.cell.fault
        kept = "kept" if self.file_is_whole else "-"
        where = f"{self.cell.provider:7}{self.cell.call:10}{when:36}"
        return f"{where}{self.jobs:<3}{kept:5}{self.row.state:10}{self.error[:100]}"


async def seen(
    cell: Cell,
    number: int,
    server: FalServer | NovitaServer,
    account: Fal | Novita,
    context: JobContext,
    folder: Path,
) -> Seen:
    """Run one job with one fault in it."""
    server.jobs.clear()
    server.script.planned.clear()
    server.script.calls.clear()
    server.script.plan(cell.call, cell.fault, after=cell.after, times=3 if cell.fault == "404" else 1)
    if cell.call == "list":
        server.script.plan("submit", "drop", after=True)
    values: dict[str, Any] = {"prompt": f"a red ball, {number}", "seed": 7}
    if isinstance(account, Fal):
        request = parse("image-to-video", {**values, "image_url": str(folder / "start.png")})
    else:
        request = parse("wan21-text-to-video", {**values, "width": 832, "height": 480})
    out, error = folder / str(number) / "film.mp4", ""

    def on_event(event: JobEvent) -> None:
        if cell.call == "cancel" and event.step == "queued":
            context.journal.ask_to_stop(event.job_id)

    try:
        await bought(request, account, context, out, on_event)
    except RemoteError as caught:
        error = str(caught)
    (job,) = (job for job in context.journal.jobs() if job.out_path == str(out))
    whole = job.file is not None and job.file.read_bytes() == FILM
    return Seen(cell, len(server.jobs), job, whole, error)


def cells(provider: str, call: str) -> list[Cell]:
    """For the call that costs money every fault there is, before the job is made and after it."""
    if call == "submit":
        every = [*FAULTS, *ANSWERS]
        return [Cell(provider, call, fault) for fault in every] + [
            Cell(provider, call, fault, after=True) for fault in every if fault not in SURELY_NO_JOB
        ]
    more = {"download": tuple(DOWNLOADS), "status": tuple(CHANGES), "result": ("wrong size told", "odd text")}
    return [Cell(provider, call, fault) for fault in (*ALWAYS, *more.get(call, ()))]


async def all_seen(provider: str, call: str, folder: Path) -> list[Seen]:
    clock = FastClock()
    (folder / "start.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(4000))
    journal, owner = Journal(folder / "jobs.sqlite", clock.now), OwnerLock(folder / "owners")
    make: Callable[..., Any] = FalServer if provider == "fal" else NovitaServer
    at: Callable[..., Any] = fal_at if provider == "fal" else novita_at
    key = FAL_KEY if provider == "fal" else NOVITA_KEY
    try:
        caps = Caps(video=2 * len(FILM))
        time = {"now": clock.now} if provider == "fal" else {}
        async with make(key=key, data=FILM, **time) as server, at(server, caps=caps) as account:
            context = JobContext(journal, owner, account, clock, PollTimes(deadline=600.0, look=5.0))
            found = [
                await seen(cell, number, server, account, context, folder)
                for number, cell in enumerate(cells(provider, call))
            ]
            assert server.cdn.leaks == []
            return found
    finally:
        owner.retire()
        journal.close()


@pytest.mark.parametrize(
    ("provider", "call"),
    [(provider, call) for provider, calls in CALLS.items() for call in calls],
)
def test_no_fault_makes_a_second_job_or_loses_the_first(provider: str, call: str, tmp_path: Path) -> None:
    found = asyncio.run(all_seen(provider, call, tmp_path))
    sys.stdout.write("\n".join(["", *(one.line() for one in found)]) + "\n")
    broken = [f"{one.line()}: {promise}" for one in found for promise in one.broken_promises()]
    assert not broken, "\n".join(broken)


def test_the_matrix_has_more_cells_than_was_promised() -> None:
    assert sum(len(cells(provider, call)) for provider, calls in CALLS.items() for call in calls) >= 200
