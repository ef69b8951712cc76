"""A service whose worker is the painter of `fleet.batches`, so that many jobs end in a second."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from fleet.batches import Painter

from wan_duet.pipelines.fleet.batch_folder import BatchFolder
from wan_duet.pipelines.fleet.worker import Worker
from wan_duet.pipelines.plan.families import default_family
from wan_duet.pipelines.service.admission import Admission
from wan_duet.pipelines.service.client_keys import add_client, read_clients
from wan_duet.pipelines.service.http_service import HttpService, application
from wan_duet.pipelines.service.job_queue import JobQueue
from wan_duet.pipelines.service.lane import Lane, LaneProgress

KIND = "text-to-video"


@dataclass
class Served:
    """A service that runs, and a client of it."""

    url: str
    http: ClientSession
    queue: JobQueue
    worker: Painter
    folder: Path
    service: HttpService

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.request(method, self.url + path, **options) as answer:
            kind = answer.content_type
            return answer.status, await (answer.json() if kind == "application/json" else answer.read())

    async def post(self, prompt: str = "a red ball", **fields: Any) -> tuple[int, Any]:
        return await self.call("POST", "/v1/jobs", json={"prompt": prompt, "seed": 1, **fields})

    async def until(self, name: str, *states: str) -> dict[str, Any]:
        for _ in range(500):
            _, job = await self.call("GET", f"/v1/jobs/{name}")
            if job["state"] in states:
                return dict(job)
            await asyncio.sleep(0.01)
        raise AssertionError(job)


@asynccontextmanager
async def served(
    tmp_path: Path,
    *,
    most_waiting: int = 100,
    usd_per_hour: float = 0.0,
    lanes: int = 1,
    workers: Sequence[Worker] = (),
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    **limits: Any,
) -> AsyncIterator[Served]:
    keys, folder, worker = tmp_path / "keys", BatchFolder(tmp_path / "out"), Painter()
    key = add_client(keys, f"client-{len(read_clients(keys))}", **limits)
    queue = JobQueue(folder.path / "service.sqlite", now, usd_per_hour)
    threads = [Lane(one, queue, folder, LaneProgress()) for one in workers or [worker] * lanes]
    service = HttpService(
        queue,
        folder,
        Admission(queue, most_waiting, max(lanes, 1), clock),
        lambda: read_clients(keys),
        worker.check,
        threads,
        "toy",
        default_family(KIND),
        KIND,
        allow_loopback=True,
    )
    runner = web.AppRunner(application(service))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for lane in threads:
        lane.start()
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with ClientSession(headers=headers) as http:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield Served(url, http, queue, worker, folder.path, service)
    finally:
        await runner.cleanup()
        for lane in threads:
            lane.stop()
        queue.close()


@contextmanager
def running(tmp_path: Path, **options: Any) -> Iterator[Served]:
    """A service whose event loop runs in a thread, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    manager = served(tmp_path, **options)
    try:
        yield wait(manager.__aenter__())
        wait(manager.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
