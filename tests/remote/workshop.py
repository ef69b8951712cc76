"""A provider inside the test: it makes jobs, counts them, and goes wrong where it is told to."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wan_duet.pipelines.errors import AmbiguousError, JobFailedError, JobLostError, UnreachableError
from wan_duet.pipelines.remote.provider import (
    Cancelled,
    Downloaded,
    JobStatus,
    Outcome,
    Payload,
    RemoteFile,
    Submitted,
)
from wan_duet.pipelines.remote.stored_form import stored_form

JOB_POINTS = (  # what `JobContext.at` is told of a job without trouble, in order
    "intent written",
    "uploaded",
    "submitting written",
    "answered",
    "submitted written",
    "status read",
    "running written",
    "result read",
    "completed written",
    "place reserved",
    "downloading",
    "downloaded",
    "receipt written",
    "done written",
)
FILM = b"\0\0\0\x18ftypmp42" + bytes(1000)


@dataclass
class Made:
    """A job as the provider has it. looks: how often its status was read."""

    payload: Payload
    looks: int = 0
    cancelled: bool = False


@dataclass
class Workshop:
    """faults: for each call, what happens instead of its first, second, ... answer; None is the answer.

    A fault is an exception to raise or, for submit, "answer lost": the job is made and nobody is told.
    looks: how many times a job is queued, and running, before it is completed.
    stalls: for each call, how many of them get no answer, ever.
    """

    name: str = "fal"
    account: str = "0badcafe"
    can_cancel: bool = True
    looks: int = 1
    cancels: Cancelled = "cancelled"
    lists: bool = True
    made: dict[str, Made] = field(default_factory=dict)
    stalls: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    calls: list[str] = field(default_factory=list)
    during: dict[str, Callable[[], None]] = field(default_factory=dict)

    async def submit(self, endpoint: str, payload: Payload, *, job_id: str) -> Submitted:
        fault = self._called("submit")
        if fault is not None and fault != "answer lost":
            raise fault
        request_id = f"request-{len(self.made) + 1}"
        self.made[request_id] = Made(payload)
        if fault is not None:
            raise AmbiguousError("no answer to the submit", provider=self.name)
        return Submitted(endpoint, request_id, f"https://queue.test/{request_id}/status")

    async def status(self, job: Submitted) -> JobStatus:
        self._called("status", raises=True)
        if self.stalls["status"]:
            self.stalls["status"] -= 1
            await asyncio.Event().wait()
        made = self.made.get(job.request_id)
        if made is None:
            return JobStatus("lost")
        made.looks += 1
        if made.cancelled:
            return JobStatus("failed", error="cancelled by the user")
        if made.looks <= self.looks:
            return JobStatus("queued", queue_position=self.looks - made.looks)
        if made.looks <= 2 * self.looks:
            return JobStatus("running", percent=50.0, log_lines=("step 1", f"step {made.looks}"))
        return JobStatus("completed")

    async def result(self, job: Submitted) -> Outcome:
        self._called("result", raises=True)
        file = RemoteFile(f"https://files.test/{len(self.calls)}/film.mp4", "video/mp4", len(FILM))
        return Outcome((file,), 7, "a red ball", {"video": {"url": file.url}, "seed": 7})

    async def cancel(self, job: Submitted) -> Cancelled:
        self._called("cancel", raises=True)
        self.made[job.request_id].cancelled = self.cancels == "cancelled"
        return self.cancels

    async def reconcile(
        self, endpoint: str, payload: Payload, since: float
    ) -> Submitted | Literal["cannot tell"] | None:
        await asyncio.sleep(0)
        self._called("reconcile", raises=True)
        if not self.lists:
            return "cannot tell"
        fits = [name for name, made in self.made.items() if stored_form(made.payload) == payload]
        return Submitted(endpoint, fits[-1]) if fits else None

    async def download(
        self,
        file: RemoteFile,
        to: Path,
        *,
        progress: Callable[[int, int | None], None],
        check: Callable[[], None],
    ) -> Downloaded:
        self._called("download", raises=True)
        check()
        progress(len(FILM) // 2, len(FILM))
        to.write_bytes(FILM)
        return Downloaded(to, len(FILM), hashlib.sha256(FILM).hexdigest())

    def _called(self, call: str, *, raises: bool = False) -> Any:
        self.calls.append(call)
        if call in self.during:
            self.during[call]()
        fault = self.faults[call].pop(0) if self.faults[call] else None
        if raises and fault is not None:
            raise fault
        return fault


def silent() -> UnreachableError:
    return UnreachableError("no answer", provider="fal", money="may have been spent")


def broken(text: str = "the model ran out of memory") -> JobFailedError:
    return JobFailedError(text, provider="fal", money="may have been spent")


def gone() -> JobLostError:
    return JobLostError("404", provider="fal", money="spent")
