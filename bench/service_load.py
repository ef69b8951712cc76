"""Sends requests to a `wan-duet serve` whose worker runs, and measures how it answers. Prints JSON.

    python bench/service_load.py [--clients 200] [--rate 25] [--seconds 60] [--closed-seconds 20] [-o OUT]

The service is a process with the embedded model. Every client has a connection of its own, which stays open.

    open     jobs are posted at --rate per second in all, by the clients in turn, whether or not earlier ones
             are answered. The time of an answer counts from when its job was due.
    closed   all clients post at once, each again when it is answered; after 429 it waits as Retry-After says,
             but no longer than a second, so that the queue stays full.
    kept     the service is killed with signal 9 and started again; every accepted job is asked for.

Exit code 1 unless all answers are 2xx or 429 with Retry-After, every accepted job is there, and 99 of 100
answers of the open loop took at most 100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from wan_duet.pipelines.service.client_keys import add_client

_GOAL_S = 0.1
_LONGEST_WAIT_S = 1.0
_ASKED_AT_ONCE = 20


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=25.0, help="jobs per second of the open loop")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the open loop")
    parser.add_argument("--closed-seconds", type=float, default=20.0)
    parser.add_argument("--queue", type=int, default=3000, help="jobs that may wait")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(options, Path(folder)))
    text = json.dumps(found, indent=1)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")
    return 0 if found["passed"] else 1


@contextmanager
def service(folder: Path, queue: int) -> Iterator[tuple[str, psutil.Process]]:
    """Run the service until the end of the block, which kills it. Yields its address and its process."""
    flags = ["--model", "toy", "-o", str(folder / "out"), "--folder", str(folder), "--port", "0"]
    command = [sys.executable, "-m", "wan_duet", "serve", *flags, "--queue", str(queue), "--json"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        line = process.stdout.readline() if process.stdout is not None else b""
        yield json.loads(line)["url"], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@dataclass
class Load:
    """What was answered. statuses: how often; accepted: ids of jobs; bare: 429 without Retry-After."""

    http: list[aiohttp.ClientSession]
    url: str
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)
    bare: int = 0
    posted: int = 0

    async def post(self, client: int) -> float | None:
        """Post one job. Returns how long to wait, None if it was accepted."""
        self.posted += 1
        body = {"prompt": "a red ball", "num_frames": 17, "num_inference_steps": 4, "seed": self.posted}
        async with self.http[client].post(f"{self.url}/v1/jobs", json=body) as answer:
            said = await answer.json()
            self.statuses[answer.status] += 1
            if answer.status in (200, 202):
                self.accepted.add(said["id"])
                return None
            self.bare += answer.status == 429 and "Retry-After" not in answer.headers
            return float(answer.headers.get("Retry-After", _LONGEST_WAIT_S))


async def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    key = add_client(folder, "bench")
    headers = {"Authorization": f"Bearer {key}"}
    http = [aiohttp.ClientSession(headers=headers) for _ in range(options.clients)]
    try:
        with service(folder, options.queue) as (url, process):
            load = Load(http, url)
            for session in http:
                await (await session.get(f"{url}/health")).read()
            memory = [process.memory_info().rss]
            busy = process.cpu_times()
            latencies = await open_loop(load, options.rate, options.seconds)
            memory.append(process.memory_info().rss)
            of_open = dict(load.statuses)
            await closed_loop(load, options.closed_seconds)
            memory.append(process.memory_info().rss)
            cpu_s = sum(process.cpu_times()[:2]) - sum(busy[:2])
        with service(folder, options.queue) as (url, _):
            lost = await missing(http[0], url, load.accepted)
    finally:
        for session in http:
            await session.close()
    return verdict(options, load, of_open, latencies, memory, lost, cpu_s)


async def open_loop(load: Load, rate: float, seconds: float) -> list[float]:
    """Return the seconds from when each job was due until it was answered."""
    began, latencies = time.monotonic(), []

    async def one(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(due - time.monotonic())
        await load.post(number % len(load.http))
        latencies.append(time.monotonic() - due)

    await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    return latencies


async def closed_loop(load: Load, seconds: float) -> None:
    until = time.monotonic() + seconds

    async def one(client: int) -> None:
        while time.monotonic() < until:
            wait_s = await load.post(client)
            await asyncio.sleep(min(wait_s or 0.0, _LONGEST_WAIT_S))

    await asyncio.gather(*(one(client) for client in range(len(load.http))))


async def missing(http: aiohttp.ClientSession, url: str, accepted: set[str]) -> int:
    """Return how many of these jobs the service does not know."""
    turn = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def is_missing(name: str) -> bool:
        async with turn, http.get(f"{url}/v1/jobs/{name}") as answer:
            return answer.status != 200

    return sum(await asyncio.gather(*(is_missing(name) for name in accepted)))


def verdict(
    options: argparse.Namespace,
    load: Load,
    of_open: dict[int, int],
    latencies: list[float],
    memory: list[int],
    lost: int,
    cpu_s: float,
) -> dict[str, Any]:
    cuts = statistics.quantiles(latencies, n=100)
    fine = load.bare == 0 and set(load.statuses) <= {200, 202, 429} and lost == 0
    return {
        "clients": options.clients,
        "jobs_per_second": options.rate,
        "seconds": options.seconds,
        "open_statuses": of_open,
        "milliseconds": {
            "p50": round(1000 * cuts[49], 1),
            "p95": round(1000 * cuts[94], 1),
            "p99": round(1000 * cuts[98], 1),
            "longest": round(1000 * max(latencies), 1),
        },
        "statuses": dict(load.statuses),
        "429_without_retry_after": load.bare,
        "accepted": len(load.accepted),
        "accepted_and_lost_by_a_kill": lost,
        "memory_mib": dict(
            zip(("idle", "after_open", "after_closed"), (round(b / 2**20) for b in memory), strict=True)
        ),
        "cpu_seconds_of_service": round(cpu_s, 1),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "answers_in_order": fine,
        "passed": fine and cuts[98] <= _GOAL_S,
    }


if __name__ == "__main__":
    sys.exit(main())
