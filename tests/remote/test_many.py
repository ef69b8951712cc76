"""Fifty jobs at once over real sockets: few connections, each wait that is asked for, no job lost."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.job_context import PollTimes
from wan_duet.pipelines.remote.job_record import Order
from wan_duet.pipelines.remote.keys import Key
from wan_duet.pipelines.remote.provider import Payload
from wan_duet.pipelines.remote.purchase import Prepare
from wan_duet.pipelines.remote.remote_thread import RemoteThread
from wan_duet.pipelines.remote.settings import Addresses
from wan_duet.pipelines.remote.spending_limits import SpendingLimits

from ..servers.fal import FalServer
from .clients import FAL_KEY, FILM, Waits

JOBS = 50
LONG_FILM = FILM + bytes(2_000_000)
QUICK = {"fal": PollTimes(first=0.05, longest=0.05, look=0.05)}


@pytest.fixture
def server() -> Iterator[FalServer]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made = FalServer(key=FAL_KEY, data=LONG_FILM)
    asyncio.run_coroutine_threadsafe(made.start(), loop).result()
    yield made
    asyncio.run_coroutine_threadsafe(made.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
def test_fifty_jobs_arrive_over_few_connections(
    server: FalServer, tmp_path: Path, order: Callable[..., Order]
) -> None:
    for call in ("submit", "status", "result"):
        server.script.plan(call, "429 wait", first=5, times=10)
    server.script.plan("download", "cut body", first=3, times=5)
    waits = Waits()
    fal = Fal(
        Key("fal", FAL_KEY),
        Addresses().at("fal", server.url, allow_loopback=True),
        tmp_path,
        timing=waits.timing(),
    )
    thread = RemoteThread(tmp_path, poll_times=QUICK)

    def sending(payload: Payload) -> Prepare:
        async def prepare() -> Payload:
            return payload

        return prepare

    orders = [order(prompt=str(number)) for number in range(JOBS)]
    tickets = [
        thread.buy(
            one, fal, limits=SpendingLimits(), prepare=sending(one.payload), on_event=lambda event: None
        )
        for one in orders
    ]
    before, most = resident_bytes(), 0
    while not all(ticket.done.done() for ticket in tickets):
        most = max(most, resident_bytes())
        time.sleep(0.01)
    jobs = [ticket.done.result() for ticket in tickets]
    thread.run(fal.close())
    thread.close()
    assert {job.state for job in jobs} == {"done"}
    assert all(Path(job.file_path).read_bytes() == LONG_FILM for job in jobs)
    assert len(server.jobs) == len({job.request_id for job in jobs}) == JOBS
    assert waits.seconds.count(7.0) == 30, "each Retry-After is waited for"
    assert server.most_connections <= 16 + 16 + 4, "kept, for submits, for files"
    assert most - before < 0.6 * JOBS * len(LONG_FILM), "files go to disk as they come"


def resident_bytes() -> int:
    """Now, not at most: tests before this one may have needed more."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
