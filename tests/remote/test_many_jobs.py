"""Fifty jobs at once, from the request to the file: few connections, the provider's rate, and none lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wan_duet.pipelines.remote.desk import Desk, Patience
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.owner import Owner
from wan_duet.pipelines.request import parse

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer
from .clients import FAL_KEY, FILM, NOVITA_KEY, Waits, bought, fal_at, novita_at
from .conftest import FastClock

MANY = 50


@pytest.mark.parametrize("provider", ["fal", "novita"])
def test_of_many_jobs_at_once_none_is_lost(
    provider: str, tmp_path: Path, journal: Journal, owner: Owner, clock: FastClock
) -> None:
    is_fal = provider == "fal"
    make: Callable[..., Any] = FalServer if is_fal else NovitaServer
    at: Callable[..., Any] = fal_at if is_fal else novita_at
    kind = "text-to-video" if is_fal else "wan21-text-to-video"
    size = {} if is_fal else {"width": 832, "height": 480}
    waits = Waits()

    async def run() -> None:
        async with (
            make(key=FAL_KEY if is_fal else NOVITA_KEY, data=FILM) as server,
            at(server, waits=waits) as account,
        ):
            for route in ("submit", "status", "download"):
                server.script.plan(route, "429 wait", first=5, times=3)
            desk = Desk(journal, owner, account, clock, Patience(look=5.0, deadline=None))
            jobs = await asyncio.gather(
                *(
                    bought(
                        parse(kind, {"prompt": "a red ball", "seed": seed, **size}),
                        account,
                        desk,
                        tmp_path / "out" / f"{seed}.mp4",
                        lambda news: None,
                    )
                    for seed in range(MANY)
                )
            )
            assert len(server.jobs) == len({job.request_id for job in jobs}) == MANY
            assert {job.file.read_bytes() for job in jobs if job.file is not None} == {FILM}
            assert len({job.file_path for job in jobs}) == MANY
            assert server.most_connections <= 40
            if not is_fal:
                looks = server.script.calls["status"]
                assert sum(waits.seconds) >= 60.0 * (looks // 15 - 1)

    asyncio.run(run())
