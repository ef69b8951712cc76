"""How long a call to a provider waits between two looks, for a price, for its turn, and for the journal."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from wan_duet.pipelines.errors import JournalError
from wan_duet.pipelines.remote.api import Timeouts
from wan_duet.pipelines.remote.job_event import JobEvent
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.provider import Submitted
from wan_duet.pipelines.remote.stored_form import stored_form

from ..quick_clock import on_a_quick_clock
from ..servers.fal import FalServer
from ..servers.novita import NovitaServer
from .clients import Waits, fal_at, novita_at
from .test_fal import RED_BALL, T2V, finished
from .test_novita import submitted


def seconds_until_fal_is_believed() -> float:
    async def ask() -> float:
        waits = Waits()
        async with FalServer() as server, fal_at(server, waits=waits) as fal:
            job = await fal.submit(T2V, RED_BALL, job_id="job-1")
            server.script.plan("status", "404", times=100)
            assert (await fal.status(job)).state == "lost"
        return sum(waits.seconds)

    return asyncio.run(ask())


def seconds_until_novita_is_believed() -> float:
    async def ask() -> float:
        waits = Waits()
        async with NovitaServer() as server, novita_at(server, waits=waits) as novita:
            job = await submitted(novita)
            server.script.plan("status", "404", times=100)
            assert (await novita.status(job)).state == "lost"
        return sum(waits.seconds)

    return asyncio.run(ask())


@pytest.mark.parametrize("seconds", [seconds_until_fal_is_believed, seconds_until_novita_is_believed])
def test_a_job_that_is_not_known_everywhere_yet_has_some_seconds_to_appear(
    seconds: Callable[[], float],
) -> None:
    assert 8.0 <= seconds() <= 30.0


def test_the_list_of_jobs_is_looked_at_soon_and_again_until_it_has_had_a_minute() -> None:
    async def ask() -> list[float]:
        waits = Waits()
        async with FalServer() as server, fal_at(server, waits=waits) as fal:
            assert await fal.reconcile(T2V, stored_form(RED_BALL), time.time()) is None
        return waits.seconds

    seconds = asyncio.run(ask())
    assert 2.0 <= seconds[0] <= 10.0
    assert seconds == sorted(seconds)
    assert 60.0 <= sum(seconds) <= 120.0


@pytest.mark.parametrize(("ahead_s", "is_found"), [(20.0, True), (120.0, False)])
def test_a_job_is_looked_for_from_half_a_minute_before_it_was_sent(ahead_s: float, is_found: bool) -> None:
    """Clocks differ by seconds; an equal job of minutes ago is another one. ahead_s: of our clock."""

    async def ask() -> Submitted | str | None:
        async with FalServer() as server, fal_at(server) as fal:
            await fal.submit(T2V, RED_BALL, job_id="job-1")
            return await fal.reconcile(T2V, stored_form(RED_BALL), time.time() + ahead_s)

    assert (asyncio.run(ask()) is not None) is is_found


@pytest.mark.parametrize(("seconds", "is_told"), [(5.0, True), (30.0, False)])
def test_a_result_waits_some_seconds_for_its_price(seconds: float, is_told: bool) -> None:
    class Slow(FalServer):
        async def _pricing(self, request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(seconds)
            return await super()._pricing(request)

    async def ask(clock: Callable[[], float]) -> float | None:
        async with Slow() as server, fal_at(server, timeouts=Timeouts()) as fal:
            return (await fal.result(await finished(fal))).charged

    assert (on_a_quick_clock(ask, patience_s=1.0) is not None) is is_told


@pytest.mark.parametrize("call", ["submit", "status"])
def test_sixteen_calls_take_novita_a_minute(call: str) -> None:
    async def ask() -> float:
        waits = Waits()
        async with NovitaServer() as server, novita_at(server, waits=waits) as novita:
            job = await submitted(novita)
            for _ in range(15 if call == "submit" else 16):
                await (submitted(novita) if call == "submit" else novita.status(job))
        return sum(waits.seconds)

    assert asyncio.run(ask()) == pytest.approx(60.0, abs=5.0)


def test_progress_counts_minutes_and_seconds() -> None:
    event = JobEvent("job-1", "running", 754.0, "$1")
    assert event.text() == "running · 12:34 · $1"
    assert replace(event, eta_s=90.0).text() == "running · 12:34 · about 90 s to go · $1"


@pytest.mark.parametrize(("seconds", "is_waited_for"), [(5.0, True), (60.0, False)])
def test_a_journal_that_another_process_writes_is_waited_for(
    tmp_path: Path, seconds: float, is_waited_for: bool
) -> None:
    def connect(file: Path, *, timeout: float, **more: Any) -> sqlite3.Connection:
        if timeout < seconds:
            raise sqlite3.OperationalError("database is locked")
        return sqlite3.connect(file, timeout=timeout, **more)

    if is_waited_for:
        Journal(tmp_path / "jobs.sqlite", time.time, connect).close()
    else:
        with pytest.raises(JournalError, match="locked"):
            Journal(tmp_path / "jobs.sqlite", time.time, connect)
