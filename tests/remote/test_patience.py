"""How long is waited for what, on clocks that need no time.

Each wait has two sides: the slow but healthy get the time they need, and what will never come is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from wan_duet.pipelines.errors import JobStoppedError, UnreachableError
from wan_duet.pipelines.remote.api import Api, Timeouts
from wan_duet.pipelines.remote.attempts import CallFailedError, repeat
from wan_duet.pipelines.remote.download import Cdn
from wan_duet.pipelines.remote.job_context import POLL_TIMES, JobContext
from wan_duet.pipelines.remote.job_record import Order
from wan_duet.pipelines.remote.provider import RemoteFile
from wan_duet.pipelines.remote.redaction import Redaction
from wan_duet.pipelines.remote.retry import (
    CANCEL,
    CHEAP,
    ONCE,
    READ,
    SUBMIT,
    FailureKind,
    Policy,
    RetryTiming,
)

from ..quick_clock import on_a_quick_clock
from .clients import FILM, Waits
from .test_job import run, the_row
from .workshop import Workshop, silent

Make = Callable[..., Order]


# ---- a job


@pytest.fixture(params=["fal", "novita"])
def patient(request: pytest.FixtureRequest, context: JobContext) -> JobContext:
    """With the poll times that the program uses for a provider."""
    return replace(context, poll_times=POLL_TIMES[request.param])


def takes(seconds: float, context: JobContext, workshop: Workshop) -> None:
    """The job is running until then."""

    def look() -> None:
        workshop.looks = 0 if context.clock.elapsed() >= seconds else 10_000

    workshop.during["status"] = look


@pytest.mark.parametrize("cancel_late", [False, True])
def test_half_an_hour_is_no_reason_to_cancel(
    patient: JobContext, workshop: Workshop, order: Make, cancel_late: bool
) -> None:
    takes(1800.0, patient, workshop)
    context = replace(patient, poll_times=replace(patient.poll_times, cancel_late=cancel_late))
    assert run(order(), context).state == "done"
    assert "cancel" not in workshop.calls


def test_nobody_pays_for_a_job_that_hangs_all_night_who_has_said_so(
    patient: JobContext, workshop: Workshop, order: Make
) -> None:
    takes(8 * 3600.0, patient, workshop)
    with pytest.raises(JobStoppedError):
        run(order(), replace(patient, poll_times=replace(patient.poll_times, cancel_late=True)))
    assert patient.clock.elapsed() < 2 * 3600


def test_a_provider_that_is_silent_after_a_stop_is_left_to_the_next_start_within_minutes(
    patient: JobContext, workshop: Workshop, order: Make
) -> None:
    takes(8 * 3600.0, patient, workshop)
    workshop.during["cancel"] = lambda: workshop.faults["status"].extend([silent()] * 1000)
    workshop.during["submit"] = lambda: patient.journal.ask_to_stop(the_row(patient).job_id)
    with pytest.raises(UnreachableError, match="jobs attach"):
        run(order(), patient)
    assert patient.clock.elapsed() < 300


@pytest.mark.parametrize(("outage_s", "arrives"), [(600.0, True), (8 * 3600.0, False)])
def test_a_provider_may_be_silent_for_ten_minutes_but_not_all_night(
    patient: JobContext, workshop: Workshop, order: Make, outage_s: float, arrives: bool
) -> None:
    def look() -> None:
        now = patient.clock.elapsed()
        workshop.looks = 0 if now >= outage_s + 60.0 else 10_000
        if 30.0 <= now < outage_s:
            workshop.faults["status"].append(silent())

    workshop.during["status"] = look
    if arrives:
        assert run(order(), patient).state == "done"
        return
    with pytest.raises(UnreachableError):
        run(order(), patient)
    assert patient.clock.elapsed() < 3 * 3600.0


def test_a_provider_that_is_silent_for_half_a_minute_after_a_stop_is_waited_for(
    patient: JobContext, workshop: Workshop, order: Make
) -> None:
    stopped: list[float] = []

    def look() -> None:
        if stopped and patient.clock.elapsed() < stopped[0] + 30.0:
            workshop.faults["status"].append(silent())

    workshop.looks = 10_000
    workshop.during["submit"] = lambda: patient.journal.ask_to_stop(the_row(patient).job_id)
    workshop.during["cancel"] = lambda: stopped.append(patient.clock.elapsed())
    workshop.during["status"] = look
    with pytest.raises(JobStoppedError):
        run(order(), patient)
    assert stopped


@pytest.mark.parametrize("seconds", [1.0, 2.0, 4.0, 10.0, 30.0, 120.0, 600.0])
def test_a_finished_job_is_seen_soon_and_an_unfinished_one_is_not_asked_about_all_the_time(
    patient: JobContext, workshop: Workshop, order: Make, seconds: float
) -> None:
    takes(seconds, patient, workshop)
    run(order(), patient)
    late = patient.clock.elapsed() - seconds
    first = 1.0 if patient.poll_times == POLL_TIMES["fal"] else 3.0
    assert late <= min(first + 0.5 * seconds, 12.0)
    # Of the twenty calls a minute that Novita allows, one job leaves room for a second one.
    assert workshop.calls.count("status") <= 4 + seconds / (1.5 if first == 1.0 else 6.0)


def test_the_journal_is_told_about_once_a_minute_that_the_provider_knows_the_job(
    patient: JobContext, workshop: Workshop, order: Make
) -> None:
    known: list[float] = []
    ages: list[float] = []

    def look() -> None:
        workshop.looks = 0 if patient.clock.elapsed() >= 1800.0 else 10_000
        if (known_at := the_row(patient).known_at) is not None:
            known.append(known_at)
            ages.append(patient.clock.now() - known_at)

    workshop.during["status"] = look
    run(order(), patient)
    assert max(ages) <= 120.0
    assert 15 <= len(set(known)) <= 60


# ---- attempts


def after(
    outage_s: float, failure_kind: FailureKind, waits: Waits, retry_after_s: float | None = None
) -> Any:
    """A call that works again `outage_s` after the first attempt."""

    async def once() -> str:
        if sum(waits.seconds) < outage_s:
            raise CallFailedError(failure_kind, "away", "fal", retry_after_s=retry_after_s)
        return "answer"

    return once


WAITED_OUT = [failure_kind for failure_kind, rule in READ.rules.items() if rule.attempts > 1]
RETRIED: list[tuple[Policy, FailureKind, float, float]] = [
    *((READ, failure_kind, 10.0, 60.0) for failure_kind in WAITED_OUT),
    *((CHEAP, failure_kind, 3.0, 15.0) for failure_kind in WAITED_OUT),
    *((CANCEL, failure_kind, 1.0, 5.0) for failure_kind in WAITED_OUT),
    (SUBMIT, "not sent", 3.0, 15.0),
    (SUBMIT, "busy", 3.0, 15.0),
]


@pytest.mark.parametrize(("policy", "failure_kind", "outage_s", "given_up_s"), RETRIED)
def test_a_short_outage_is_survived_and_a_long_one_is_told(
    policy: Policy, failure_kind: FailureKind, outage_s: float, given_up_s: float
) -> None:
    waits = Waits()
    assert asyncio.run(repeat(after(outage_s, failure_kind, waits), policy, waits.timing())) == "answer"
    waits = Waits()
    with pytest.raises(CallFailedError):
        asyncio.run(repeat(after(3600.0, failure_kind, waits), policy, waits.timing()))
    assert sum(waits.seconds) <= given_up_s


@pytest.mark.parametrize(
    ("policy", "asked_s", "outage_s", "given_up_s"),
    [(READ, 100.0, 150.0, 300.0), (CHEAP, 100.0, 150.0, 300.0), (CANCEL, 10.0, 15.0, 60.0)],
)
def test_the_waits_that_a_provider_asks_for_are_kept_but_not_for_ever(
    policy: Policy, asked_s: float, outage_s: float, given_up_s: float
) -> None:
    waits = Waits()
    asked = after(outage_s, "busy", waits, asked_s)
    assert asyncio.run(repeat(asked, policy, waits.timing())) == "answer"
    waits = Waits()
    with pytest.raises(CallFailedError):
        asyncio.run(repeat(after(1e6, "busy", waits, asked_s), policy, waits.timing()))
    assert sum(waits.seconds) <= given_up_s


def test_who_asks_for_a_stop_is_not_kept_waiting_by_a_busy_provider() -> None:
    waits = Waits()
    with pytest.raises(CallFailedError):
        asyncio.run(repeat(after(1e6, "busy", waits, 120.0), CANCEL, waits.timing()))
    assert sum(waits.seconds) <= 120.0


def test_many_clients_do_not_come_back_at_the_same_moment() -> None:
    timing = RetryTiming()
    waits = [timing.wait_s(3, None) for _ in range(300)]  # 2 s, as the table of waits has it
    assert min(waits) >= 1.0
    assert max(waits) <= 3.0
    assert min(waits) < 1.5 < 2.5 < max(waits)


# ---- one call


@dataclass
class SlowNetwork(httpx.AsyncBaseTransport):
    """Each phase of a call takes its time, on the clock of the waits; a phase is cut off as httpx does it."""

    waits: Waits
    phases: dict[str, float] = field(default_factory=dict)
    calls: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        cut = {
            "pool": httpx.PoolTimeout,
            "connect": httpx.ConnectTimeout,
            "write": httpx.WriteTimeout,
            "read": httpx.ReadTimeout,
        }
        for phase, seconds in self.phases.items():
            allowed = request.extensions["timeout"][phase]
            self.waits.seconds.append(min(seconds, allowed))
            if seconds > allowed:
                raise cut[phase](f"{phase} takes too long")
        return httpx.Response(200, headers={"content-length": str(len(FILM))}, stream=Body())


class Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield FILM


@pytest.mark.parametrize(
    ("phase", "healthy_s", "dead_s"),
    [
        ("connect", 3.0, 60.0),  # two lost SYN packets cost 1 s and 2 s (RFC 6298)
        ("read", 20.0, 300.0),  # a store that brings a file from afar is silent before the first byte
        ("write", 60.0, 600.0),  # a buffer of 1 MiB over a modest uplink
        ("pool", 10.0, 300.0),  # others of the same process use the connections
    ],
)
def test_a_slow_network_is_waited_for_and_a_dead_one_is_not(
    tmp_path: Path, phase: str, healthy_s: float, dead_s: float
) -> None:
    def fetch(seconds: float) -> SlowNetwork:
        waits = Waits()
        network = SlowNetwork(waits, {phase: seconds})
        cdn = Cdn("fal", network, waits.timing())
        file = RemoteFile("https://files.example/a.mp4", "video/mp4", len(FILM))
        done = cdn.download(file, tmp_path / "a.mp4", progress=lambda *_: None, check=lambda: None)
        asyncio.run(done)
        return network

    assert fetch(healthy_s).calls == 1
    with pytest.raises(UnreachableError):
        fetch(dead_s)


@asynccontextmanager
async def trickles(pause_s: float, pieces: int) -> AsyncIterator[str]:
    """A server whose answer comes in pieces, with pauses that no single read takes for too long."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"text": "')
        for _ in range(pieces):
            await asyncio.sleep(pause_s)
            writer.write(b"x")
        writer.write(b'"}')
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def api_at(url: str) -> Api:
    return Api(
        "fal",
        "Key x",
        Redaction("x" * 32),
        (url,),
        lambda _: None,
        timing=RetryTiming(),
        timeouts=Timeouts(),
    )


@pytest.mark.parametrize(("pieces", "arrives"), [(5, True), (40, False)])
def test_an_answer_may_trickle_for_a_minute_or_two_and_not_for_a_quarter_of_an_hour(
    pieces: int, arrives: bool
) -> None:
    async def ask(clock: Callable[[], float]) -> tuple[str, float]:
        async with trickles(20.0, pieces) as url:
            api = api_at(url)
            try:
                answer = await api.call(ONCE, "GET", url)
                return answer.data["text"], clock()
            except CallFailedError as failed:
                return failed.failure_kind, clock()
            finally:
                await api.close()

    said, seconds = on_a_quick_clock(ask)
    assert said == ("xxxxx" if arrives else "lost")
    assert seconds < 600


def test_an_answer_whose_compression_is_broken_is_lost_and_may_be_asked_for_again() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n{}{}")
        writer.close()

    async def ask() -> FailureKind:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        api = api_at(url)
        try:
            with pytest.raises(CallFailedError, match="cannot be read: DecodingError") as caught:
                await api.call(ONCE, "GET", url)
            return caught.value.failure_kind
        finally:
            await api.close()
            server.close()

    assert asyncio.run(ask()) == "lost"
