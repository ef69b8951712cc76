"""fal's queue: what is sent, what is understood, and that no fault makes a second job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from wan_duet.pipelines.errors import (
    AmbiguousError,
    JobFailedError,
    JobLostError,
    NotAcceptedError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from wan_duet.pipelines.remote.api import Timeouts
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.provider import Provider, Submitted
from wan_duet.pipelines.remote.stored_form import stored_form

from ..servers.fal import FalServer
from .clients import FAL_KEY, FILM, Waits, fal_at

T2V = "fal-ai/wan/v2.2-a14b/text-to-video"
RED_BALL = {"prompt": "a red ball", "seed": 7}


def with_fal(use: Callable[[Fal, FalServer], Awaitable[Any]], **server: Any) -> Any:
    """The value of `use`, run with a client of a server of its own."""

    async def run() -> Any:
        async with FalServer(**{"key": FAL_KEY, "data": FILM, **server}) as at, fal_at(at) as fal:
            try:
                return await use(fal, at)
            finally:
                assert at.cdn.leaks == []

    return asyncio.run(run())


async def submitted(fal: Provider) -> Submitted:
    return await fal.submit(T2V, RED_BALL, job_id="job-1")


async def finished(fal: Provider) -> Submitted:
    job = await submitted(fal)
    while (await fal.status(job)).state != "completed":
        pass
    return job


@pytest.mark.parametrize("full_ids", [False, True])
def test_a_job_goes_from_the_queue_to_a_file(tmp_path: Path, full_ids: bool) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        provider: Provider = fal
        job = await submitted(provider)
        states = [await provider.status(job) for _ in range(3)]
        assert [status.state for status in states] == ["queued", "running", "completed"]
        assert states[0].queue_position == 0
        assert states[1].log_lines == ("step 1 of 1",)
        outcome = await provider.result(job)
        assert (outcome.seed, outcome.prompt, outcome.charged) == (7, "a red ball", pytest.approx(0.4048))
        told: list[tuple[int, int | None]] = []
        done = await provider.download(
            outcome.files[0], tmp_path / "a.mp4", progress=lambda *at: told.append(at), check=lambda: None
        )
        assert (done.path.read_bytes(), done.size_bytes) == (FILM, len(FILM))
        assert told[-1] == (len(FILM), len(FILM))

    with_fal(use, full_ids=full_ids)


def test_a_job_whose_row_has_only_its_id_is_found_by_two_parts_of_the_endpoint() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = Submitted(T2V, (await submitted(fal)).request_id)
        assert (await fal.status(job)).state == "queued"
        assert await fal.cancel(job) == "cancelled"
        paths = [path for _, path in server.seen[1:]]
        assert all(path.startswith("/queue/fal-ai/wan/requests/") for path in paths)

    with_fal(use)


def test_the_key_goes_to_no_address_of_another_host() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        server.url = "https://elsewhere.example"  # what the answer to the submit will name
        job = await submitted(fal)
        assert (job.status_url, job.response_url, job.cancel_url) == (None, None, None)

    with_fal(use)


def test_the_key_goes_to_no_address_that_an_older_setting_left_in_the_journal() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        request_id = (await submitted(fal)).request_id
        foreign = f"http://127.0.0.1:1/queue/fal-ai/wan/requests/{request_id}"
        job = Submitted(T2V, request_id, f"{foreign}/status", foreign, f"{foreign}/cancel")
        assert (await fal.status(job)).state == "queued"
        assert await fal.cancel(job) == "cancelled"

    with_fal(use)


def test_our_id_is_in_the_tags() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        assert server.jobs[job.request_id].headers["X-Fal-Tags"] == "wan-duet.job=job-1"

    with_fal(use)


def test_a_queued_job_is_cancelled_and_then_failed() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        assert await fal.cancel(job) == "cancelled"
        status = await fal.status(job)
        assert (status.state, status.error) == ("failed", "cancelled (client_cancelled)")
        assert await fal.cancel(job) == "too late"

    with_fal(use)


def test_cancelling_what_is_finished_is_too_late() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        assert await fal.cancel(await finished(fal)) == "too late"

    with_fal(use)


# ---- a submit that goes wrong

SURELY_NOT = ("425", "429", "429 wait")
NEVER = ("400", "401", "403", "404", "409", "422")
NO_ANSWER = ("drop", "reset", "stall", "cut json")
TROUBLED = ("408", "500", "502 page", "503 page", "503 json", "504 start", "504 page")
UNREADABLE = ("not json", "empty", "not an object", "huge json", "redirect", "moved")
WHO_KNOWS = (*NO_ANSWER, *TROUBLED, *UNREADABLE)


@pytest.mark.parametrize("name", [*SURELY_NOT, *NEVER])
def test_a_refused_submit_makes_no_job(name: str) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        server.script.plan("submit", name, times=100)
        with pytest.raises(NotAcceptedError if name in SURELY_NOT else RefusedError) as caught:
            await submitted(fal)
        assert caught.value.money == "none spent"
        assert len(server.jobs) == 0
        assert server.script.calls["submit"] == (4 if name in SURELY_NOT else 1)

    with_fal(use)


@pytest.mark.parametrize("name", WHO_KNOWS)
@pytest.mark.parametrize("after", [False, True])
def test_an_ambiguous_submit_is_made_once(name: str, after: bool) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        server.script.plan("submit", name, after=after, times=100)
        with pytest.raises(AmbiguousError) as caught:
            await submitted(fal)
        assert caught.value.money == "may have been spent"
        assert server.script.calls["submit"] == 1
        assert len(server.jobs) == int(after)

    with_fal(use)


def test_a_route_that_has_moved_for_good_is_asked_once_and_names_the_new_place() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.script.plan("status", "moved", times=100)
        with pytest.raises(RemoteError, match=r"moved to https://example.com/, which is not followed"):
            await fal.status(job)
        assert server.script.calls["status"] == 1

    with_fal(use)


def test_a_busy_queue_is_asked_again_when_it_says() -> None:
    async def run() -> None:
        waits = Waits()
        async with FalServer() as server, fal_at(server, waits=waits) as fal:
            server.script.plan("submit", "429 wait", times=2)
            await submitted(fal)
            assert waits.seconds == [7.0, 7.0]
            assert len(server.jobs) == 1

    asyncio.run(run())


def test_a_server_that_is_not_there_gets_no_job_and_is_tried_four_times() -> None:
    async def run() -> None:
        waits = Waits()
        async with FalServer() as server, fal_at(server, waits=waits) as fal:
            await server.stop()
            with pytest.raises(NotAcceptedError):
                await submitted(fal)
            assert len(waits.seconds) == 3

    asyncio.run(run())


def test_what_fal_does_not_take_is_named_by_its_field() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        with pytest.raises(RefusedError, match="num_frames") as caught:
            await fal.submit(T2V, {**RED_BALL, "num_frames": 1000}, job_id="job-1")
        assert caught.value.field == "num_frames"

    with_fal(use)


def test_a_submit_has_a_connection_of_its_own() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        await fal.status(job)
        await fal.status(job)
        await submitted(fal)
        first, look, again, second = server.ports
        assert look == again  # kept, and may end at any moment
        assert len({first, look, second}) == 3

    with_fal(use)


# ---- calls that may be repeated

HICCUPS = (*NO_ANSWER, *TROUBLED, "not json", "empty", "not an object", "huge json", "425", "429")


@pytest.mark.parametrize("name", HICCUPS)
def test_looking_at_a_job_outlasts_a_fault(name: str) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.script.plan("status", name)
        assert (await fal.status(job)).state == "queued"

    with_fal(use)


@pytest.mark.parametrize("name", [name for name in HICCUPS if name not in ("500", "503 json", "504 start")])
def test_asking_for_a_result_outlasts_a_fault(name: str) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await finished(fal)
        server.script.plan("result", name)
        assert len((await fal.result(job)).files) == 1

    with_fal(use)


@pytest.mark.parametrize("name", ["drop", "reset", "stall", "429", "500", "503 page"])
def test_cancelling_outlasts_a_fault(name: str) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.script.plan("cancel", name)
        assert await fal.cancel(job) == "cancelled"

    with_fal(use)


def test_looking_gives_up_in_the_end_and_says_that_money_may_have_been_spent() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.script.plan("status", "503 page", times=100)
        with pytest.raises(UnreachableError) as caught:
            await fal.status(job)
        assert caught.value.request_id == job.request_id
        assert caught.value.money == "may have been spent"
        assert server.script.calls["status"] == 6

    with_fal(use)


def test_a_new_job_that_is_not_known_everywhere_yet_is_not_lost() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.script.plan("status", "404", times=2)
        assert (await fal.status(job)).state == "queued"
        server.script.plan("status", "404", first=4, times=3)
        assert (await fal.status(job)).state == "lost"

    with_fal(use)


def test_a_key_that_is_no_longer_valid_ends_the_asking() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.key = "another"
        with pytest.raises(RemoteError) as caught:
            await fal.status(job)
        assert not isinstance(caught.value, UnreachableError)

    with_fal(use)


@pytest.mark.parametrize(
    ("name", "state"), [("unknown word", "running"), ("no extras", "queued"), ("failed", "failed")]
)
def test_strange_statuses_are_understood(name: str, state: str) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await submitted(fal)
        server.script.plan("status", name)
        status = await fal.status(job)
        assert status.state == state
        assert status.queue_position is None or name != "no extras"
        assert status.error == ("out of memory (internal_error)" if name == "failed" else None)

    with_fal(use)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("422", JobFailedError),
        ("500", JobFailedError),
        ("503 page", UnreachableError),
        ("503 json", UnreachableError),
        ("504 start", JobFailedError),
        ("504 page", UnreachableError),
        ("429", UnreachableError),
        ("404", JobLostError),
        ("400", UnreachableError),
        ("401", RemoteError),
    ],
)
def test_a_result_that_is_an_error_says_which(name: str, error: type[RemoteError]) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await finished(fal)
        server.script.plan("result", name, times=100)
        with pytest.raises(RemoteError) as caught:
            await fal.result(job)
        assert type(caught.value) is error
        assert caught.value.money != "none spent"
        assert caught.value.request_id == job.request_id

    with_fal(use)


# ---- a submit whose answer was lost


def reconciled(
    server_choices: dict[str, Any],
    made: tuple[dict[str, Any], ...],
    then: Callable[[FalServer], None] = lambda server: None,
) -> tuple[object, FalServer]:
    async def run() -> tuple[object, FalServer]:
        async with FalServer(**server_choices) as server, fal_at(server) as fal:
            since = time.time()
            for payload in made:
                await fal.submit(T2V, payload, job_id="job-1")
            then(server)
            return await fal.reconcile(T2V, stored_form(RED_BALL), since), server

    return asyncio.run(run())


def test_a_job_whose_answer_was_lost_is_found() -> None:
    found, server = reconciled({}, (RED_BALL, {**RED_BALL, "seed": 8}))
    (expected,) = (job.request_id for job in server.jobs.values() if job.body["seed"] == 7)
    assert found == Submitted(T2V, expected)


def test_a_job_is_found_on_a_later_page() -> None:
    found, server = reconciled({"page": 2}, (*({**RED_BALL, "seed": seed} for seed in range(5)), RED_BALL))
    assert found == Submitted(T2V, list(server.jobs)[-1])


def test_no_such_job_is_told_after_several_looks() -> None:
    found, server = reconciled({}, ({**RED_BALL, "seed": 8},))
    assert found is None
    assert server.script.calls["list"] == 4


def test_of_two_equal_jobs_nobody_can_tell() -> None:
    assert reconciled({}, (RED_BALL, RED_BALL))[0] == "cannot tell"


@pytest.mark.parametrize("name", ["401", "403", "404", "not json", "503 page"])
def test_without_a_list_nobody_can_tell(name: str) -> None:
    def break_the_list(server: FalServer) -> None:
        server.script.plan("list", name, times=100)

    assert reconciled({}, (RED_BALL,), break_the_list)[0] == "cannot tell"


def test_without_stored_payloads_nobody_can_tell() -> None:
    def forget(server: FalServer) -> None:
        server.stores_payloads = False

    assert reconciled({}, (RED_BALL,), forget)[0] == "cannot tell"


def test_an_older_job_is_not_taken_for_the_lost_one() -> None:
    def age(server: FalServer) -> None:
        for job in server.jobs.values():
            job.sent_at = "2026-01-01T00:00:00+00:00"

    assert reconciled({}, (RED_BALL,), age)[0] is None


# ---- the key


def test_trying_a_key_makes_no_job() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        assert await fal.accepts_key()
        server.key = "another"
        assert not await fal.accepts_key()
        assert not server.jobs

    with_fal(use)


@pytest.mark.parametrize("fault", ["403", "stall", "503 page", "not json", "cut json"])
def test_a_price_that_cannot_be_had_is_unknown_and_holds_up_no_result(fault: str) -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        job = await finished(fal)
        server.script.plan("pricing", fault, times=100)
        assert (await fal.result(job)).charged is None
        assert server.script.calls["pricing"] == 1

    with_fal(use)


@pytest.mark.parametrize(
    "answer",
    [
        {"price": 1.0},
        {"prices": None},
        {"prices": []},
        {"prices": [{"currency": "USD"}]},
        {"prices": [{"currency": "USD", "unit_price": "dear"}]},
    ],
    ids=str,
)
def test_a_price_in_another_form_is_unknown(answer: dict[str, Any]) -> None:
    class Other(FalServer):
        async def _pricing(self, request: web.Request) -> web.StreamResponse:
            return web.json_response(answer)

    async def use() -> float | None:
        async with Other() as server, fal_at(server) as fal:
            return (await fal.result(await finished(fal))).charged

    assert asyncio.run(use()) is None


def test_a_price_in_another_currency_is_not_taken_for_dollars() -> None:
    async def use(fal: Fal, server: FalServer) -> None:
        assert (await fal.result(await finished(fal))).charged is None

    with_fal(use, currency="EUR")


def test_fifty_jobs_at_once_share_few_connections() -> None:
    async def run() -> None:
        async with FalServer(data=FILM) as server, fal_at(server, timeouts=Timeouts()) as fal:
            jobs = await asyncio.gather(*(finished(fal) for _ in range(50)))
            assert len({job.request_id for job in jobs}) == len(server.jobs) == 50
            assert server.most_connections <= 32

    asyncio.run(run())
