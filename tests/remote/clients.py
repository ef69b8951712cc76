"""Clients of the loopback servers that never really wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wan_duet.pipelines.remote.api import Timeouts
from wan_duet.pipelines.remote.fal import Fal
from wan_duet.pipelines.remote.job import carry_out
from wan_duet.pipelines.remote.job_context import JobContext
from wan_duet.pipelines.remote.job_event import OnEvent
from wan_duet.pipelines.remote.job_record import Job
from wan_duet.pipelines.remote.keys import Key
from wan_duet.pipelines.remote.novita import Novita
from wan_duet.pipelines.remote.order import order_for
from wan_duet.pipelines.remote.payload import sendable
from wan_duet.pipelines.remote.provider import Payload
from wan_duet.pipelines.remote.retry import RetryTiming
from wan_duet.pipelines.remote.settings import Addresses
from wan_duet.pipelines.remote.spending_limits import SpendingLimits, begin_job
from wan_duet.pipelines.request import WanRequest

from ..servers.fal import FalServer
from ..servers.novita import NovitaServer

FAL_KEY = "5f0c1d2e-aaaa-4bbb-8ccc-123456789abc:c0ffee00112233445566778899aabbcc"
NOVITA_KEY = "sk_Zm9yLXRlc3RzLW9ubHktMDEyMzQ1Njc4OQ"
QUICK = Timeouts(read=0.5)  # short enough for servers that stall, long enough for a busy machine
FILM = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 400


@dataclass
class Waits:
    """The waits that were asked for; time passes at once."""

    seconds: list[float] = field(default_factory=list)

    def timing(self) -> RetryTiming:
        async def sleep(seconds: float) -> None:
            self.seconds.append(seconds)
            await asyncio.sleep(0)

        return RetryTiming(sleep, lambda: sum(self.seconds), lambda: 1.0)


@asynccontextmanager
async def fal_at(
    server: FalServer,
    folder: Path | None = None,
    *,
    key: str = FAL_KEY,
    waits: Waits | None = None,
    **more: Any,
) -> AsyncIterator[Fal]:
    where = Addresses().at("fal", server.url, allow_loopback=True)
    more.setdefault("timeouts", QUICK)
    fal = Fal(Key("fal", key), where, folder, timing=(waits or Waits()).timing(), **more)
    try:
        yield fal
    finally:
        await fal.close()


@asynccontextmanager
async def novita_at(
    server: NovitaServer, *, key: str = NOVITA_KEY, waits: Waits | None = None, **more: Any
) -> AsyncIterator[Novita]:
    where = Addresses().at("novita", server.url, allow_loopback=True)
    more.setdefault("timeouts", QUICK)
    novita = Novita(Key("novita", key), where, timing=(waits or Waits()).timing(), **more)
    try:
        yield novita
    finally:
        await novita.close()


async def bought(
    request: WanRequest, account: Fal | Novita, context: JobContext, out: Path, on_event: OnEvent
) -> Job:
    """The finished job of a request, as a node would get it. Raises what a node would."""
    order, prepared = order_for(request, account.name, out)

    async def prepare() -> Payload:
        return await sendable(prepared, account.upload) if isinstance(account, Fal) else prepared.payload

    job = begin_job(order, context, SpendingLimits(), reuse=True, resubmit=False)
    return await carry_out(job.job_id, context, on_event=on_event, prepare=prepare)
