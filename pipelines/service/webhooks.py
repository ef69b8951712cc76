"""Tells clients at an address of theirs that a job has ended, signed as standardwebhooks.com says.

The queue knows what was delivered, so a webhook outlives the process. It may arrive twice, with one id.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping

import httpx

from ..download.address import shown
from ..download.public_web import PublicTransport, url_of
from ..errors import DownloadError
from .client_keys import ServiceClient
from .job_queue import JobQueue
from .served_job import ServedJob
from .service_answers import job_document

__all__ = ["Webhooks", "signature"]

log = logging.getLogger(__name__)

_WAITS_S = (5, 30, 300, 1800, 7200)  # after each try that failed; then it is given up
_LOOK_S = 1.0
_GONE = 410  # the receiver wants no more
_TIMEOUT = httpx.Timeout(15.0, connect=10.0)


class Webhooks:
    """Delivers what is due. clients: returns all clients, whose key hashes sign.

    sleep: waits so many seconds, or less if something has become due.
    """

    def __init__(
        self,
        queue: JobQueue,
        clients: Callable[[], list[ServiceClient]],
        transport: PublicTransport,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._queue, self._clients, self._transport, self._sleep = queue, clients, transport, sleep

    async def run(self) -> None:
        """Deliver until this task is cancelled."""
        while True:
            await self.deliver_due()
            await self._sleep(_LOOK_S)

    async def deliver_due(self) -> None:
        """Try each webhook that is due once."""
        for job in await asyncio.to_thread(self._queue.due_webhooks):
            await self._deliver(job)

    async def _deliver(self, job: ServedJob) -> None:
        secret = next((one.sha256 for one in self._clients() if one.name == job.client), None)
        if secret is None:
            log.warning("%s: its client was removed, so its webhook is not sent", job.name)
            await asyncio.to_thread(self._queue.note_webhook, job, "given up")
            return
        failure = await self._post(job, bytes.fromhex(secret))
        if failure is None:
            await asyncio.to_thread(self._queue.note_webhook, job, "sent")
            return
        place = shown(str(job.webhook_url))
        if job.webhook_tries >= len(_WAITS_S) or failure == str(_GONE):
            log.warning("%s: webhook to %s given up: %s", job.name, place, failure)
            await asyncio.to_thread(self._queue.note_webhook, job, "given up")
            return
        wait_s = _WAITS_S[job.webhook_tries]
        log.info("%s: webhook to %s: %s; again in %d s", job.name, place, failure, wait_s)
        await asyncio.to_thread(self._queue.note_webhook, job, "due", self._queue.now() + wait_s)

    async def _post(self, job: ServedJob, secret: bytes) -> str | None:
        """Send one webhook. Returns what went wrong, or None. Redirects are not followed."""
        event = {"type": f"job.{job.state}", "timestamp": job.ended_at, "data": job_document(job)}
        body = json.dumps(event, ensure_ascii=False).encode()
        headers = signature(secret, f"{job.name}.{job.state}", int(self._queue.now()), body)
        try:
            request = httpx.Request(
                "POST",
                url_of(str(job.webhook_url)),
                content=body,
                headers={"Content-Type": "application/json", "User-Agent": "wan-duet", **headers},
                extensions={"timeout": _TIMEOUT.as_dict()},
            )
            # Not an httpx client: it would write the whole address into the log.
            response = await self._transport.handle_async_request(request)
            await response.aclose()
        except (httpx.TransportError, DownloadError) as error:
            return str(error) or type(error).__name__
        return None if response.is_success else str(response.status_code)


def signature(secret: bytes, event_id: str, sent_at: int, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign a webhook. sent_at: seconds since 1970.

    Source: github.com/standard-webhooks/standard-webhooks, spec 1.0: HMAC-SHA256 over id.timestamp.body.
    """
    signed = hmac.new(secret, f"{event_id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
