"""Novita's tasks: what is sent, what is understood, and that a lost answer stays lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.errors import (
    AmbiguousError,
    JobFailedError,
    JobLostError,
    NotAcceptedError,
    RefusedError,
    UnreachableError,
)
from wan_duet.pipelines.remote.api import Timeouts
from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.novita import Novita
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.remote.payload import prepare
from wan_duet.pipelines.remote.provider import Outcome, Provider, Submitted
from wan_duet.pipelines.request import NOVITA_MODELS, for_novita, parse

from ..servers.novita import ENDPOINTS, NovitaServer
from .clients import FILM, NOVITA_KEY, Waits, bought, novita_at
from .conftest import FastClock

REQUEST = parse("wan21-text-to-video", {"prompt": "a red ball", "width": 832, "height": 480, "seed": 7})
PREPARED = prepare(REQUEST)
LORA = {"path": "owner/name", "scale": 0.8}
BODIES: dict[str, dict[str, Any]] = {
    "/v3/async/wan-t2v": dict(PREPARED.payload),
    "/v3/async/wan-i2v": {
        "prompt": "a ball",
        "image_url": "https://example.com/a.png",
        "width": 480,
        "height": 832,
    },
    "/v3/async/wan-2.2-t2v": {
        "input": {"prompt": "a ball"},
        "parameters": {"size": "832*480", "duration": 5, "seed": 7, "loras": [LORA]},
    },
    "/v3/async/wan-2.2-i2v": {
        "input": {"prompt": "a ball", "img_url": "https://example.com/a.png"},
        "parameters": {"resolution": "480P"},
    },
}


def with_novita(use: Callable[[Novita, NovitaServer], Awaitable[Any]], **server: Any) -> Any:
    async def run() -> Any:
        async with NovitaServer(**{"key": NOVITA_KEY, "data": FILM, **server}) as at, novita_at(at) as novita:
            try:
                return await use(novita, at)
            finally:
                assert at.cdn.leaks == []

    return asyncio.run(run())


async def submitted(novita: Provider) -> Submitted:
    return await novita.submit(PREPARED.endpoint, PREPARED.payload, job_id="job-1")


async def finished(novita: Provider) -> tuple[Submitted, Outcome]:
    job = await submitted(novita)
    while (await novita.status(job)).state != "completed":
        pass
    return job, await novita.result(job)


def quietly(*_: object) -> None: ...


def test_a_task_goes_from_the_queue_to_a_file(tmp_path: Path) -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        provider: Provider = novita
        job = await submitted(provider)
        states = [await provider.status(job) for _ in range(4)]
        assert [status.state for status in states] == ["queued", "running", "running", "completed"]
        assert [status.percent for status in states] == [None, 0.0, 50.0, None]
        assert [status.eta_s for status in states] == [None, 10.0, 10.0, None]
        outcome = await provider.result(job)
        assert (outcome.seed, outcome.prompt, outcome.charged) == (7, None, None)
        done = await provider.download(outcome.files[0], tmp_path / "a.mp4", progress=quietly, check=quietly)
        assert done.path.read_bytes() == FILM

    with_novita(use)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_endpoint_takes_the_body_of_its_contract(path: str) -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        job = await novita.submit(ENDPOINTS[path], BODIES[path], job_id="job-1")
        assert server.jobs[job.request_id].body == BODIES[path]

    with_novita(use)


def test_a_request_of_fal_becomes_a_task_of_each_endpoint_it_can_be_said_to() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        for model in NOVITA_MODELS:
            for kind, image in (
                ("text-to-video", {}),
                ("image-to-video", {"image_url": "https://example.com/a.png"}),
            ):
                sent = for_novita(parse(kind, {"prompt": "a red ball", "seed": 7, **image}), model)
                assert sent is not None
                prepared = prepare(sent)
                await novita.submit(prepared.endpoint, prepared.payload, job_id="job-1")
        assert [task.path for task in server.jobs.values()] == list(ENDPOINTS)

    with_novita(use)


@pytest.mark.parametrize("ttl", ["3600", 3600])
def test_a_file_says_when_its_address_ends(ttl: str | int) -> None:
    async def run() -> None:
        async with (
            NovitaServer(ttl=ttl, data=FILM) as server,
            novita_at(server, wall_clock=lambda: 1000.0) as novita,
        ):
            _, outcome = await finished(novita)
            assert outcome.files[0].expires_at == 4600.0
            assert outcome.files[0].content_type == "video/mp4"

    asyncio.run(run())


def test_an_address_that_has_ended_is_replaced_by_asking_again(tmp_path: Path) -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        job, outcome = await finished(novita)
        server.cdn.signature = "newer"
        with pytest.raises(JobLostError):
            await novita.download(outcome.files[0], tmp_path / "a.mp4", progress=quietly, check=quietly)
        fresh = (await novita.result(job)).files[0]
        assert (
            await novita.download(fresh, tmp_path / "a.mp4", progress=quietly, check=quietly)
        ).path.is_file()

    with_novita(use)


def test_a_task_that_fails_says_why() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        job = await submitted(novita)
        states = [await novita.status(job) for _ in range(4)]
        assert (states[-1].state, states[-1].error) == ("failed", "TASK_FAILED: out of memory")
        with pytest.raises(JobFailedError, match="out of memory"):
            await novita.result(job)

    with_novita(use, failure="TASK_FAILED: out of memory")


def test_novita_neither_cancels_nor_lists() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        job = await submitted(novita)
        assert await novita.cancel(job) == "not offered"
        assert await novita.reconcile(PREPARED.endpoint, PREPARED.payload, 0.0) == "cannot tell"

    with_novita(use)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "name", ["drop", "reset", "stall", "cut json", "408", "500", "502 page", "503 page", "not json", "empty"]
)
def test_an_ambiguous_submit_is_made_once(name: str, after: bool) -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        server.script.plan("submit", name, after=after, times=100)
        with pytest.raises(AmbiguousError):
            await submitted(novita)
        assert server.script.calls["submit"] == 1
        assert len(server.jobs) == int(after)

    with_novita(use)


def test_a_task_that_could_not_be_created_surely_was_not() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        server.script.plan("submit", "create failed")
        with pytest.raises(NotAcceptedError, match="CREATE_TASK_FAILED"):
            await submitted(novita)

    with_novita(use)


@pytest.mark.parametrize(
    ("key", "body", "text"),
    [
        ("another", BODIES["/v3/async/wan-t2v"], "INVALID_API_KEY"),
        (NOVITA_KEY, {**BODIES["/v3/async/wan-t2v"], "width": 480}, "height"),
        (NOVITA_KEY, {**BODIES["/v3/async/wan-t2v"], "loras": [LORA] * 4}, "at most 3"),
        (NOVITA_KEY, {**BODIES["/v3/async/wan-t2v"], "guidance_scale_2": 3.0}, "guidance_scale_2"),
    ],
)
def test_what_novita_refuses_makes_no_task(key: str, body: dict[str, Any], text: str) -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        with pytest.raises(RefusedError, match=text) as caught:
            await novita.submit(PREPARED.endpoint, body, job_id="job-1")
        assert NOVITA_KEY not in str(caught.value)
        assert not server.jobs

    with_novita(use, key=key)


@pytest.mark.parametrize("name", ["drop", "reset", "stall", "cut json", "429", "500", "503 page", "not json"])
def test_looking_at_a_task_outlasts_a_fault(name: str) -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        job = await submitted(novita)
        server.script.plan("status", name)
        assert (await novita.status(job)).state == "queued"

    with_novita(use)


def test_a_task_that_nobody_knows_is_lost_after_three_looks() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        job = Submitted(PREPARED.endpoint, "nobody")
        assert (await novita.status(job)).state == "lost"
        assert server.script.calls["status"] == 3
        with pytest.raises(JobLostError):
            await novita.result(job)

    with_novita(use)


def test_a_result_that_is_not_there_yet_may_be_asked_for_again() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        with pytest.raises(UnreachableError):
            await novita.result(await submitted(novita))

    with_novita(use)


def test_trying_a_key_makes_no_task() -> None:
    async def use(novita: Novita, server: NovitaServer) -> None:
        assert await novita.accepts_key()
        server.key = "another"
        assert not await novita.accepts_key()
        assert not server.jobs

    with_novita(use)


def test_fifty_tasks_at_once_keep_to_the_rate_that_novita_allows_and_none_is_lost(
    tmp_path: Path, journal: Journal, owner: OwnerLock, clock: FastClock
) -> None:
    waits = Waits()

    async def run() -> None:
        patient = {"waits": waits, "timeouts": Timeouts()}
        async with NovitaServer(data=FILM) as server, novita_at(server, **patient) as novita:
            for route in ("submit", "status", "download"):
                server.script.plan(route, "429 wait", first=5, times=3)
            context = JobContext(journal, owner, novita, clock, PollTimes(look=5.0, deadline=None))
            jobs = await asyncio.gather(
                *(
                    bought(
                        REQUEST.model_copy(update={"seed": seed}),
                        novita,
                        context,
                        tmp_path / f"{seed}.mp4",
                        quietly,
                    )
                    for seed in range(50)
                )
            )
            assert len(server.jobs) == len({job.request_id for job in jobs}) == 50
            assert {Path(job.file_path or "").read_bytes() for job in jobs} == {FILM}
            minutes = server.script.calls["status"] // 15 - 1  # 15 in the first moment of each
            assert sum(waits.seconds) >= 60.0 * minutes

    asyncio.run(run())
