"""Runs the service until it is stopped: resumes its jobs, starts its lanes, listens."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ..download.public_web import PublicTransport
from ..errors import RequestError
from ..fleet.batch_folder import BatchFolder
from ..fleet.worker import Worker
from ..plan.families import Family
from ..remote.settings import read_addresses
from ..request.base import WanRequest
from .admission import Admission
from .client_keys import ServiceClient, read_clients
from .http_service import HttpService, application
from .job_queue import JobQueue
from .lane import Lane, LaneProgress, publish_job
from .overflow import Overflow
from .webhooks import Webhooks

__all__ = ["Purchases", "ServiceSettings", "serve"]

log = logging.getLogger(__name__)

_QUEUE = "service.sqlite"
_LOOK_S = 1.0  # how often silent workers are looked for


@dataclass(frozen=True)
class Purchases:
    """What is bought while too many jobs wait. See `Overflow`.

    workers: that buy; the first one says prices.
    """

    workers: Sequence[Worker]
    above: int
    usd_per_day: float


@dataclass(frozen=True)
class ServiceSettings:
    """How to serve.

    output: folder of the results and of the queue. clients: folder of their keys, and of the settings.
    model:  name that clients see.
    """

    output: Path
    clients: Path
    model: str
    family: Family
    kind: str
    host: str = "127.0.0.1"
    port: int = 8188
    most_waiting: int = 100
    usd_per_hour: float = 0.0


def serve(
    settings: ServiceSettings,
    workers: Sequence[tuple[Worker, LaneProgress]],
    ready: Callable[[str], None],
    *,
    check: Callable[[WanRequest], object] | None = None,
    purchases: Purchases | None = None,
    named: Callable[[WanRequest], WanRequest] = lambda request: request,
) -> None:
    """Serve until SIGTERM or Ctrl-C. A running job then waits for the next start.

    workers: each with the progress that its runs report to. ready: is told the address.
    check:   raises an error if a request cannot run here; None asks the first worker.
    purchases: None buys nothing. named: as in `Lane`.

    Raises RequestError if there is no client, a limit without a price, or another service in the folder.
    """
    _require_clients(settings)
    folder = BatchFolder(settings.output)
    with folder.alone():
        queue = JobQueue(folder.path / _QUEUE, time.time, settings.usd_per_hour)
        try:
            for job in queue.resume():
                publish_job(queue, folder, job)
            asyncio.run(
                _serve(
                    settings, folder, queue, workers, ready, check or workers[0][0].check, purchases, named
                )
            )
        finally:
            queue.close()


async def _serve(
    settings: ServiceSettings,
    folder: BatchFolder,
    queue: JobQueue,
    workers: Sequence[tuple[Worker, LaneProgress]],
    ready: Callable[[str], None],
    check: Callable[[WanRequest], object],
    purchases: Purchases | None,
    named: Callable[[WanRequest], WanRequest],
) -> None:
    stopped = _stop_event()
    clients = CachedClients(settings.clients)
    lanes = [Lane(worker, queue, folder, progress, named=named) for worker, progress in workers]
    admission = Admission(queue, settings.most_waiting, len(lanes), time.monotonic)
    lanes += _buying(purchases, queue, folder, clients)
    loopback = read_addresses(settings.clients).allow_loopback
    service = HttpService(
        queue,
        folder,
        admission,
        clients,
        check,
        lanes,
        settings.model,
        settings.family,
        settings.kind,
        loopback,
    )
    runner = web.AppRunner(application(service), access_log=None)
    await runner.setup()
    webhooks = Webhooks(queue, clients, PublicTransport(allow_loopback=loopback, any_port=True))
    tasks = [asyncio.create_task(webhooks.run()), asyncio.create_task(_watch(lanes))]
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        for lane in lanes:
            lane.start()
        ready(_address(runner))
        await stopped.wait()
    finally:
        await runner.cleanup()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for lane in lanes:
            await asyncio.to_thread(lane.stop)


def _buying(
    purchases: Purchases | None,
    queue: JobQueue,
    folder: BatchFolder,
    clients: Callable[[], list[ServiceClient]],
) -> list[Lane]:
    """Return a lane for each worker that buys."""
    if purchases is None:
        if begun := sum(job.is_bought for job in queue.waiting_jobs()):
            log.warning("%d jobs were begun at fal and wait for a start with --overflow fal", begun)
        return []
    first, *_ = purchases.workers
    overflow = Overflow(
        queue, clients, lambda request: first.check(request).usd, purchases.above, purchases.usd_per_day
    )
    return [Lane(worker, queue, folder, LaneProgress(), overflow) for worker in purchases.workers]


async def _watch(lanes: Sequence[Lane]) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        for lane in lanes:
            await asyncio.to_thread(lane.look)


class CachedClients:
    """Reads the clients again when their file has changed, so that a removed key opens nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._known, self._changed = folder, read_clients(folder), self._stamp_of(folder)

    def __call__(self) -> list[ServiceClient]:
        stamp = self._stamp_of(self._folder)
        if stamp != self._changed:
            self._known, self._changed = read_clients(self._folder), stamp
        return self._known

    @staticmethod
    def _stamp_of(folder: Path) -> tuple[int, ...]:
        with suppress(FileNotFoundError):
            found = (folder / "clients.json").stat()
            return (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)
        return ()


def _stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and Ctrl-C set. Where a loop takes no signals, Ctrl-C ends the loop."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stopped.set)
    return stopped


def _address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _require_clients(settings: ServiceSettings) -> None:
    clients = read_clients(settings.clients)
    if not clients:
        raise RequestError.of("clients", "there is none", "add one: wan-duet clients add NAME")
    limited = [client.name for client in clients if client.usd_per_day is not None]
    if limited and not settings.usd_per_hour:
        found = f"not given, and {', '.join(limited)} may spend only so much"
        raise RequestError.of("--usd-per-hour", found, "say what an hour of this machine costs")
