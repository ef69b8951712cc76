"""Every HTTP error status, in every call of a job at fal, in four forms and for three lengths of time.

Each form lasts each time; each status has one form and time, or with WAN_DUET_LONG all forms.

A run meets the trouble, and an equal request follows once it is over: one job at most is ever made, and its
file arrives whenever fal still has it.

pytest -s tests/remote/test_http_answers.py     prints what became of each cell
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest
from aiohttp import web

from wan_duet.pipelines.errors import RemoteError
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.job_event import JobEvent
from wan_duet.pipelines.remote.job_record import Job
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.remote.retry import RetryTiming
from wan_duet.pipelines.request import parse

from ..servers.fal import FalServer
from ..servers.faults import Handler, Script
from .clients import FAL_KEY, FILM, bought, fal_at
from .conftest import FastClock

CALLS = ("upload", "submit", "status", "result", "download", "cancel")
STATUSES = (400, 401, 403, 404, 408, 409, 410, 422, 425, 429, 500, 502, 503, 504)
BODIES = {
    "JSON": ("application/json", '{"detail": "not now"}'),
    "HTML": ("text/html", "<html><body><h1>not now</h1></body></html>"),
    "text": ("text/plain", "not now"),
    "empty": ("text/plain", ""),
}
LASTING = {"once": 0.0, "a minute": 60.0, "for ever": float("inf")}
MAY_HAVE_MADE_THE_JOB = (408, 500, 502, 503, 504)


@dataclass(frozen=True)
class Cell:
    """after: fal has made the job, and only its answer is lost."""

    call: str
    status: int
    body: str
    lasting: str
    after: bool = False

    def answer(self) -> web.Response:
        content_type, text = BODIES[self.body]
        return web.Response(status=self.status, text=text, content_type=content_type)


@dataclass
class Trouble(Script):
    """Answers one call with the cell's status, until its time is over."""

    cell: Cell | None = None
    clock: FastClock | None = None
    began: float | None = None

    async def serve(self, route: str, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.cell is None or route != self.cell.call or self._is_over():
            return await super().serve(route, request, handler)
        await request.read()
        if self.cell.after:
            await handler(request)
        return self.cell.answer()

    def _is_over(self) -> bool:
        assert self.cell is not None
        assert self.clock is not None
        if self.began is None:
            self.began = self.clock.elapsed()
            return False
        return self.clock.elapsed() >= self.began + LASTING[self.cell.lasting]


@dataclass(frozen=True)
class Seen:
    """What became of a cell. errors: of the run in trouble and the next; alive: jobs not cancelled."""

    cell: Cell
    alive: int
    file_is_whole: bool
    expired: bool
    rows: list[Job]
    errors: tuple[str, str]

    def broken_promises(self) -> Iterator[str]:
        if self.alive > 1 and not self.expired:
            yield f"{self.alive} jobs were made"
        if self.alive and not self.file_is_whole:
            yield "fal has the job, and its file did not arrive"
        if not self.alive and not any(self.errors):
            yield "there is neither a job nor a message"
        if self.alive and all(row.money == "none spent" for row in self.rows):
            yield "a job exists, and nothing is said to be spent"

    def line(self) -> str:
        cell = self.cell
        where = f"{cell.call:9}{cell.status} {cell.body:6}{cell.lasting:9}{'after' if cell.after else '':6}"
        states = ",".join(row.state for row in self.rows)
        return (
            f"{where}{self.alive} {'file' if self.file_is_whole else '-':5}{states:18}{self.errors[0][:80]}"
        )


def cells(call: str) -> list[Cell]:
    lasting = tuple(LASTING)
    every = [
        Cell(call, status, body, lasting[(row + column) % len(lasting)])
        for (row, status), (column, body) in product(enumerate(STATUSES), enumerate(BODIES))
        if "WAN_DUET_LONG" in os.environ or column == row % len(BODIES)
    ]
    if call == "submit":
        every += [replace(cell, after=True) for cell in every if cell.status in MAY_HAVE_MADE_THE_JOB]
    return every


async def seen(cell: Cell, number: int, server: FalServer, context: JobContext, folder: Path) -> Seen:
    script, clock, account = server.script, context.clock, context.provider
    assert isinstance(script, Trouble)
    assert isinstance(clock, FastClock)
    assert isinstance(account, Fal)
    server.jobs.clear()
    script.cell, script.clock, script.began = cell, clock, None
    request = parse(
        "image-to-video",
        {"prompt": f"a red ball, {number}", "seed": 7, "image_url": str(folder / "start.png")},
    )
    outs = [folder / f"{number}-{run}" / "film.mp4" for run in (1, 2)]

    def stop(event: JobEvent) -> None:
        if cell.call == "cancel" and event.step == "queued" and script.cell is cell:
            context.journal.ask_to_stop(event.job_id)

    errors = []
    began = clock.elapsed()
    for out in outs:
        try:
            await bought(request, account, context, out, stop)
            errors.append("")
        except RemoteError as caught:
            errors.append(str(caught))
        script.cell = None  # and the equal request follows
    rows = [job for job in context.journal.jobs() if Path(job.out_path) in outs]
    files = [job.file for job in rows if job.state == "done" and job.file is not None]
    whole = any(file.read_bytes() == FILM for file in files)
    alive = sum(job.state != "CANCELLED" for job in server.jobs.values())
    expired = clock.elapsed() - began > context.poll_times.kept
    return Seen(cell, alive, whole, expired, rows, (errors[0], errors[1]))


async def all_seen(call: str, folder: Path) -> list[Seen]:
    clock = FastClock()
    (folder / "start.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400))
    journal, owner = Journal(folder / "jobs.sqlite", clock.now), OwnerLock(folder / "owners")

    class OneClock:
        def timing(self) -> RetryTiming:
            return RetryTiming(clock.sleep, clock.elapsed, lambda: 1.0)

    try:
        async with (
            FalServer(key=FAL_KEY, data=FILM, now=clock.now, script=Trouble()) as server,
            fal_at(server, waits=OneClock()) as account,
        ):
            context = JobContext(
                journal, owner, account, clock, PollTimes(growth=3.0, longest=240.0, look=240.0)
            )
            return [
                await seen(cell, number, server, context, folder) for number, cell in enumerate(cells(call))
            ]
    finally:
        owner.retire()
        journal.close()


@pytest.mark.parametrize("call", CALLS)
def test_one_job_at_most_and_its_file_arrives_while_fal_has_it(call: str, tmp_path: Path) -> None:
    found = asyncio.run(all_seen(call, tmp_path))
    sys.stdout.write("\n".join(["", *(one.line() for one in found)]) + "\n")
    broken = [f"{one.line()}: {promise}" for one in found for promise in one.broken_promises()]
    assert not broken, f"{len(broken)} of {len(found)}:\n" + "\n".join(broken)
