"""The client of fal.ai's queue: submits jobs, polls, cancels, and finds a job whose answer was lost.

Uses the addresses that fal returns for a job: an endpoint has more path segments than the addresses of its
jobs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ..errors import AmbiguousError, JobFailedError, JobLostError, RemoteError, UnreachableError
from ..video.local_file import LocalFile
from .api import Answer, Api, Timeouts, same_origin
from .attempts import CallFailedError
from .download import Caps, Cdn
from .fal_answers import explain, is_of_the_model, read_files, read_status
from .fal_storage import FalStorage, UploadSizes
from .keys import Key
from .provider import Cancelled, Downloaded, JobStatus, Outcome, Payload, RemoteFile, Submitted
from .redaction import Redaction
from .retry import CANCEL, CHEAP, ONCE, READ, SUBMIT, RetryTiming
from .settings import Addresses
from .stored_form import stored_form

__all__ = ["Fal"]

log = logging.getLogger(__name__)

_LOOKS_FOR_A_NEW_JOB = 3  # a job may not be known everywhere at once
_LOOKS_AT_THE_LIST_S = (5.0, 10.0, 20.0, 40.0)  # the pauses before them: a list may lag by a minute
_BETWEEN_LOOKS_S = 5.0
_BEFORE_S = 30.0  # how much the clocks may differ
_PAGES = 20
_FOR_A_PRICE_S = 10.0


def _is_id(value: object) -> bool:
    """Return whether `text` can be a segment of an address."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9._~-]{1,200}", value) is not None


class Fal:
    """One account at fal.ai, for one event loop; must be closed. `Provider` documents the calls.

    folder: where uploads are recorded; None records none.
    """

    name = "fal"
    can_cancel = True

    def __init__(
        self,
        key: Key,
        addresses: Addresses,
        folder: Path | None = None,
        *,
        timing: RetryTiming | None = None,
        timeouts: Timeouts | None = None,
        caps: Caps | None = None,
        sizes: UploadSizes | None = None,
    ) -> None:
        self.account = key.account
        self._queue, self._platform = addresses.fal_queue, addresses.fal_api
        self._timing, timeouts = timing or RetryTiming(), timeouts or Timeouts()
        bases = (addresses.fal_queue, addresses.fal_rest, addresses.fal_api)
        redaction = Redaction(key.reveal())
        self._api = Api(
            "fal",
            f"Key {key.reveal()}",
            redaction,
            bases,
            explain,
            timing=self._timing,
            timeouts=timeouts,
            proxy=addresses.proxy,
        )
        self._cdn = Cdn.for_results(
            "fal",
            allow_loopback=addresses.allow_loopback,
            timing=self._timing,
            timeouts=timeouts,
            caps=caps,
            proxy=addresses.proxy,
        )
        self._storage = FalStorage(
            self._api,
            addresses.fal_rest,
            self._cdn,
            key.account,
            folder,
            sizes or UploadSizes(),
            self._timing,
            timeouts,
        )
        self._unit_prices: dict[str, float] = {}

    async def close(self) -> None:
        await self._api.close()
        await self._cdn.close()

    async def upload(self, file: LocalFile) -> str:
        """Upload a file of this machine. Return its address at fal; see `FalStorage.upload`."""
        return await self._storage.upload(file)

    async def submit(self, endpoint: str, payload: Payload, *, job_id: str) -> Submitted:
        tags = {"X-Fal-Tags": f"wan-duet.job={job_id}"}
        url = f"{self._queue}/{endpoint}"
        try:
            answer = await self._api.call(SUBMIT, "POST", url, body=payload, headers=tags, fresh=True)
        except CallFailedError as failed:
            raise failed.as_error("asking for the job") from None
        request_id = answer.data.get("request_id")
        if not _is_id(request_id):
            raise AmbiguousError("asking for the job: answered without a request id", provider="fal")
        return Submitted(
            endpoint,
            str(request_id),
            *(self._own(answer.data.get(name)) for name in ("status_url", "response_url", "cancel_url")),
        )

    async def status(self, job: Submitted) -> JobStatus:
        url = self._own(job.status_url) or f"{self._job(job)}/status"
        for look in range(_LOOKS_FOR_A_NEW_JOB):
            try:
                answer = await self._api.call(READ, "GET", url, params={"logs": "1"})
                return read_status(answer.data)
            except CallFailedError as failed:
                if failed.status != 404:
                    raise self._about(failed, "asking how far the job is", job) from None
            if look < _LOOKS_FOR_A_NEW_JOB - 1:
                await self._timing.sleep(_BETWEEN_LOOKS_S)
        return JobStatus("lost", error="fal does not know the request")

    async def result(self, job: Submitted) -> Outcome:
        what = "asking for the result"
        try:
            answer = await self._api.call(READ, "GET", self._own(job.response_url) or self._job(job))
        except CallFailedError as failed:
            if failed.status in (404, 410):
                message = f"{what}: fal does not have it"
                raise JobLostError(
                    message, provider="fal", money="spent", request_id=job.request_id
                ) from None
            if is_of_the_model(failed):
                raise self._about(failed, "the job failed", job, JobFailedError) from None
            early = UnreachableError if failed.status == 400 else None  # not finished, or not everywhere
            raise self._about(failed, what, job, early) from None
        return await self._outcome(job, answer)

    async def cancel(self, job: Submitted) -> Cancelled:
        url = self._own(job.cancel_url) or f"{self._job(job)}/cancel"
        try:
            await self._api.call(CANCEL, "PUT", url, needs_json=False)
        except CallFailedError as failed:
            if failed.status in (400, 404):
                return "too late"
            raise self._about(failed, "cancelling the job", job) from None
        return "cancelled"

    async def reconcile(
        self, endpoint: str, payload: Payload, since: float
    ) -> Submitted | Literal["cannot tell"] | None:
        wanted = stored_form(payload)
        for pause_s in _LOOKS_AT_THE_LIST_S:
            await self._timing.sleep(pause_s)
            requests = await self._list(endpoint, since)
            if requests is None or any(not isinstance(one.get("json_input"), dict) for one in requests):
                return "cannot tell"
            fitting = [one for one in requests if stored_form(one["json_input"]) == wanted]
            if len(fitting) > 1:
                return "cannot tell"
            if fitting and _is_id(fitting[0].get("request_id")):
                return Submitted(endpoint, fitting[0]["request_id"])
        return None

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
        """Return whether fal accepts the key. Asks about a job that does not exist, which costs nothing."""
        url = f"{self._queue}/fal-ai/wan/requests/00000000-0000-4000-8000-000000000000/status"
        try:
            await self._api.call(CHEAP, "GET", url)
        except CallFailedError as failed:
            if failed.status in (401, 403):
                return False
            if failed.status != 404:
                raise failed.as_error("trying the key") from None
        return True

    # ---- inside

    def _own(self, url: object) -> str | None:
        """Return an address that fal returned, if the key may be sent there, else None."""
        return url if isinstance(url, str) and same_origin(url, self._queue) else None

    def _job(self, job: Submitted) -> str:
        """Return the address of a job by its id. Only the first two segments of the endpoint belong to it."""
        return f"{self._queue}/{'/'.join(job.endpoint.split('/')[:2])}/requests/{job.request_id}"

    def _about(
        self, failed: CallFailedError, what: str, job: Submitted, error: type[RemoteError] | None = None
    ) -> RemoteError:
        return failed.as_error(what, error=error, money="may have been spent", request_id=job.request_id)

    async def _outcome(self, job: Submitted, answer: Answer) -> Outcome:
        data = answer.data
        seed, prompt = data.get("seed"), data.get("actual_prompt") or data.get("prompt")
        return Outcome(
            files=tuple(read_files(data)),
            seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
            prompt=prompt if isinstance(prompt, str) and prompt else None,
            raw=data,
            charged=await self._charged(job.endpoint, answer),
        )

    async def _charged(self, endpoint: str, answer: Answer) -> float | None:
        """Return billed units times fal's unit price, in US dollars.

        Its requests are short: the result waits for it.
        """
        try:
            units = float(answer.headers.get("x-fal-billable-units", ""))
            if endpoint not in self._unit_prices:
                url = f"{self._platform}/v1/models/pricing"
                asked = self._api.call(ONCE, "GET", url, params={"endpoint_id": endpoint})
                found = await asyncio.wait_for(asked, _FOR_A_PRICE_S)
                (entry,) = found.data["prices"]
                if entry["currency"] != "USD":
                    return None
                self._unit_prices[endpoint] = float(entry["unit_price"])
        except CallFailedError as failed:
            log.info("fal does not tell the price of %s: %s", endpoint, failed)
            return None
        except (ValueError, TypeError, KeyError, asyncio.TimeoutError):
            return None
        return round(units * self._unit_prices[endpoint], 6)

    async def _list(self, endpoint: str, since: float) -> list[dict[str, Any]] | None:
        """Return the account's requests to an endpoint since a time, or None if the list is not complete."""
        start = datetime.fromtimestamp(since - _BEFORE_S, timezone.utc).isoformat(timespec="milliseconds")
        params = {
            "endpoint_id": endpoint,
            "start": start.replace("+00:00", "Z"),
            "limit": "100",
            "expand": "payloads",
        }
        items: list[dict[str, Any]] = []
        for _ in range(_PAGES):
            url = f"{self._platform}/v1/models/requests/by-endpoint"
            try:
                answer = await self._api.call(CHEAP, "GET", url, params=params)
            except CallFailedError as failed:
                log.info("fal does not list the requests of this key: %s", failed)
                return None
            page = answer.data.get("items")
            if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
                return None
            items += page
            cursor = answer.data.get("next_cursor")
            if not isinstance(cursor, str) or not cursor:
                return items
            params["cursor"] = cursor
        return None
