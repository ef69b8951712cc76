"""The client of Novita's asynchronous tasks: submits and polls. Novita can neither cancel nor list tasks.

So a submit without an answer stays unknown, and a stopped task still finishes there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import httpx

from ..errors import AmbiguousError, JobFailedError, JobLostError, NotAcceptedError, UnreachableError
from .api import Answer, Api, Timeouts
from .attempts import CallFailedError
from .download import Caps, Cdn
from .keys import Key
from .novita_answers import explain, read_files, read_seed, read_status
from .provider import Cancelled, Downloaded, JobStatus, Outcome, Payload, RemoteFile, Submitted
from .rate_limit import RateLimit
from .redaction import Redaction
from .retry import CHEAP, READ, SUBMIT, RetryTiming
from .settings import Addresses

__all__ = ["Novita"]

log = logging.getLogger(__name__)

_LOOKS_FOR_A_NEW_JOB = 3
_BETWEEN_LOOKS_S = 5.0
# 20 requests a minute (Novita's page of rate limits, 2026-11), which does not say of which kind: stay below.
_CALLS_PER_MINUTE = 15


class Novita:
    """One account at Novita, for one event loop; must be closed. `Provider` documents the calls.

    wall_clock: returns seconds since 1970.
    """

    name = "novita"
    can_cancel = False

    def __init__(
        self,
        key: Key,
        addresses: Addresses,
        *,
        timing: RetryTiming | None = None,
        timeouts: Timeouts | None = None,
        caps: Caps | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.account = key.account
        self._base, self._wall_clock = addresses.novita_api, wall_clock
        self._timing, timeouts = timing or RetryTiming(), timeouts or Timeouts()
        self._api = Api(
            "novita",
            f"Bearer {key.reveal()}",
            Redaction(key.reveal()),
            (self._base,),
            explain,
            timing=self._timing,
            timeouts=timeouts,
            proxy=addresses.proxy,
        )
        self._cdn = Cdn.for_results(
            "novita",
            allow_loopback=addresses.allow_loopback,
            timing=self._timing,
            timeouts=timeouts,
            caps=caps,
            proxy=addresses.proxy,
        )
        self._submits = RateLimit(_CALLS_PER_MINUTE, 60.0, self._timing)
        self._looks = RateLimit(_CALLS_PER_MINUTE, 60.0, self._timing)

    async def close(self) -> None:
        await self._api.close()
        await self._cdn.close()

    async def submit(self, endpoint: str, payload: Payload, *, job_id: str) -> Submitted:
        del job_id  # Novita has no place for it
        await self._submits.turn()
        url = self._base + httpx.URL(endpoint.removeprefix("POST ")).path
        try:
            answer = await self._api.call(SUBMIT, "POST", url, body=payload, fresh=True)
        except CallFailedError as failed:
            code = None if failed.details is None else failed.details.code
            surely = NotAcceptedError if code == "CREATE_TASK_FAILED" else None
            raise failed.as_error("asking for the task", error=surely) from None
        task_id = answer.data.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise AmbiguousError("asking for the task: answered without a task id", provider="novita")
        return Submitted(endpoint, task_id)

    async def status(self, job: Submitted) -> JobStatus:
        for look in range(_LOOKS_FOR_A_NEW_JOB):
            try:
                return read_status((await self._look(job)).data)
            except CallFailedError as failed:
                if failed.status != 404:
                    raise self._about(failed, "asking how far the task is", job) from None
            if look < _LOOKS_FOR_A_NEW_JOB - 1:
                await self._timing.sleep(_BETWEEN_LOOKS_S)
        return JobStatus("lost", error="Novita does not know the task")

    async def result(self, job: Submitted) -> Outcome:
        what = "asking for the result"
        try:
            data = (await self._look(job)).data
        except CallFailedError as failed:
            lost = JobLostError if failed.status == 404 else None
            raise self._about(failed, what, job, lost) from None
        status = read_status(data)
        if status.state == "failed":
            raise JobFailedError(
                status.error or "the task failed",
                provider="novita",
                money="may have been spent",
                request_id=job.request_id,
            )
        if status.state != "completed":
            raise UnreachableError(
                f"{what}: the task is {status.state}",
                provider="novita",
                money="may have been spent",
                request_id=job.request_id,
            )
        return Outcome(tuple(read_files(data, self._wall_clock())), read_seed(data), None, data)

    async def cancel(self, job: Submitted) -> Cancelled:
        del job
        return "not offered"

    async def reconcile(
        self, endpoint: str, payload: Payload, since: float
    ) -> Submitted | Literal["cannot tell"] | None:
        del endpoint, payload, since
        return "cannot tell"

    async def download(
        self,
        file: RemoteFile,
        to: Path,
        *,
        progress: Callable[[int, int | None], None],
        check: Callable[[], None],
    ) -> Downloaded:
        return await self._cdn.download(file, to, progress=progress, check=check)

    async def accepts_key(self) -> bool:
        """Return whether Novita accepts the key, by asking for the balance, which costs nothing."""
        try:
            await self._api.call(CHEAP, "GET", f"{self._base}/v1/user/balance")
        except CallFailedError as failed:
            if failed.status in (401, 403):
                return False
            raise failed.as_error("trying the key") from None
        return True

    # ---- inside

    async def _look(self, job: Submitted) -> Answer:
        await self._looks.turn()
        url = f"{self._base}/v3/async/task-result"
        return await self._api.call(READ, "GET", url, params={"task_id": job.request_id})

    def _about(
        self, failed: CallFailedError, what: str, job: Submitted, error: type[JobLostError] | None = None
    ) -> Exception:
        return failed.as_error(what, error=error, money="may have been spent", request_id=job.request_id)
