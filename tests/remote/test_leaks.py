"""After whole jobs at providers that repeat the key at every chance, the key is nowhere."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from wan_duet.pipelines.errors import WanDuetError
from wan_duet.pipelines.remote.job_context import JobContext, PollTimes
from wan_duet.pipelines.remote.job_event import JobEvent
from wan_duet.pipelines.remote.journal import Journal
from wan_duet.pipelines.remote.owner_lock import OwnerLock
from wan_duet.pipelines.request import parse

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer
from .clients import FAL_KEY, NOVITA_KEY, bought, fal_at, novita_at
from .conftest import FastClock

ROUTES = ("initiate", "upload", "submit", "status", "result", "cancel", "list", "pricing", "download")
ANSWERED = ("initiate", "submit", "status", "result", "list")
I2V = {"prompt": "a red ball", "seed": 7}
T2V = {**I2V, "width": 832, "height": 480}


def spellings(key: str) -> list[bytes]:
    parts = [key, key.rpartition(":")[2]]
    coded = [base64.b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return [text.encode() for text in (*parts, *coded, *(quote(part, safe="") for part in parts))]


def assert_nowhere(key: str, folder: Path, *texts: str) -> None:
    seen = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert any(file.suffix == ".sqlite" for file in seen)
    for spelling in spellings(key):
        for file, content in seen.items():
            assert spelling not in content, file
        for text in texts:
            assert spelling not in text.encode()


async def told(provider: str, folder: Path, faults: list[tuple[str, str, int]]) -> list[str]:
    """Every text that a user or a console sees while three jobs run: one whole, one stopped, one refused."""
    clock = FastClock()
    lines: list[str] = []
    (folder / "start.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(4000))
    journal, owner = Journal(folder / "jobs.sqlite", clock.now), OwnerLock(folder / "owners")
    at: Any = (
        (FalServer(key=FAL_KEY), fal_at) if provider == "fal" else (NovitaServer(key=NOVITA_KEY), novita_at)
    )
    async with at[0] as server:
        for route, name, times in faults:
            server.script.plan(route, name, times=times)
        more = {"folder": folder} if provider == "fal" else {}
        async with at[1](server, **more) as account:
            context = JobContext(
                journal, owner, account, clock, PollTimes(deadline=60.0, look=5.0, grace=20.0)
            )
            lines.append(repr(account))
            for number, stops in enumerate((False, True, False)):
                if number == 2:
                    server.key = "another"
                values = {"image_url": str(folder / "start.png"), **I2V} if provider == "fal" else T2V
                kind = "image-to-video" if provider == "fal" else "wan21-text-to-video"
                request = parse(kind, {**values, "prompt": f"a red ball, {number}"})

                def on_event(event: JobEvent, stops: bool = stops, lines: list[str] = lines) -> None:
                    lines.append(f"{event!r} {event.text()}")
                    if stops and event.step == "queued":
                        journal.ask_to_stop(event.job_id)

                try:
                    await bought(request, account, context, folder / f"{number}.mp4", on_event)
                except WanDuetError as error:
                    lines += traceback.format_exception(error)
    owner.retire()
    journal.close()
    return lines


@pytest.mark.parametrize("provider", ["fal", "novita"])
@pytest.mark.parametrize(
    "faults",
    [
        [],
        [(route, "tells the key", 1) for route in ROUTES if route != "submit"],
        [("submit", "tells the key", 1)],
        [(route, "tells the key", 1000) for route in ("status", "result", "download")],
        [(route, "repeats the key", 1000) for route in ANSWERED],
        [(route, "spells the key", 1000) for route in ANSWERED],
    ],
    ids=["well", "every call", "submit", "for ever", "successes", "escapes"],
)
def test_the_key_is_in_no_log_file_row_receipt_or_error(
    provider: str, faults: list[tuple[str, str, int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = dict(os.environ)
    with caplog.at_level(logging.DEBUG):
        lines = asyncio.run(told(provider, tmp_path, faults))
    ours = [record for record in caplog.records if not record.name.startswith("aiohttp")]  # the server's
    logged = [logging.Formatter().format(record) for record in ours]
    assert any(record.name.startswith("httpcore") for record in ours)
    assert_nowhere(FAL_KEY if provider == "fal" else NOVITA_KEY, tmp_path, *lines, *logged)
    assert dict(os.environ) == before
