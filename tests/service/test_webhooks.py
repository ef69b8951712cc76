"""A webhook is signed, tried again, and told to nobody but a public address."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path

import httpx
import pytest

from wan_duet.pipelines.download.public_web import PublicTransport
from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.service.client_keys import ServiceClient
from wan_duet.pipelines.service.job_queue import JobQueue
from wan_duet.pipelines.service.posted_request import posted_job, require_webhook
from wan_duet.pipelines.service.served_job import ServedJob
from wan_duet.pipelines.service.webhooks import Webhooks

URL = "https://hooks.example.com/done?token=t"
CLIENT = ServiceClient("studio", hashlib.sha256(b"key").hexdigest())


class Receiver(httpx.AsyncBaseTransport):
    """Answers each call with the next status."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.requests = list(statuses), []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.headers, await request.aread(), request.url))
        return httpx.Response(self.statuses.pop(0), headers={"Location": "https://elsewhere.example.com"})


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "service.sqlite", lambda: 1000.0)


def ended(queue: JobQueue) -> ServedJob:
    queue.accept("studio", posted_job({"prompt": "a"}, "text-to-video", URL), None, lambda: None)
    job = queue.take("local")
    assert job is not None
    return queue.fail(job, "broken", 1.0)


def webhooks(
    queue: JobQueue, receiver: Receiver, address: str = "93.184.216.34", clients: tuple = (CLIENT,)
) -> Webhooks:
    return Webhooks(queue, lambda: list(clients), PublicTransport(receiver, lambda host, port: [address]))


def deliver(hooks: Webhooks) -> None:
    asyncio.run(hooks.deliver_due())


def test_the_receiver_can_check_who_sent_it(queue: JobQueue) -> None:
    job, receiver = ended(queue), Receiver(204)
    deliver(webhooks(queue, receiver))
    ((headers, body, url),) = receiver.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    secret = hashlib.sha256(b"key").digest()  # what the client computes from its own key
    expected = base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert (url.host, headers["host"]) == ("93.184.216.34", "hooks.example.com")
    said = json.loads(body)
    assert (said["type"], said["data"]["id"], said["data"]["error"]) == ("job.failed", job.name, "broken")
    assert "token=t" not in body.decode()
    assert queue.find("studio", job.name).webhook_state == "sent"
    deliver(webhooks(queue, receiver))
    assert len(receiver.requests) == 1


def test_a_receiver_that_is_away_is_asked_again_later(queue: JobQueue) -> None:
    job = ended(queue)
    deliver(webhooks(queue, Receiver(503)))
    row = queue.find("studio", job.name)
    assert (row.webhook_state, row.webhook_tries, row.webhook_due_at) == ("due", 1, 1005.0)
    deliver(webhooks(queue, Receiver()))  # not due yet


@pytest.mark.parametrize("status", [410, 302])
def test_a_receiver_that_is_gone_or_elsewhere(queue: JobQueue, status: int) -> None:
    job, receiver = ended(queue), Receiver(status)
    deliver(webhooks(queue, receiver))
    expected = "given up" if status == 410 else "due"  # a redirect is a failure, and is not followed
    assert queue.find("studio", job.name).webhook_state == expected
    assert len(receiver.requests) == 1


def test_it_is_given_up_at_last(queue: JobQueue, tmp_path: Path) -> None:
    job, seconds = ended(queue), [1000.0]
    queue.now = lambda: seconds[0]
    for _ in range(6):
        deliver(webhooks(queue, Receiver(500)))
        seconds[0] += 10_000
    row = queue.find("studio", job.name)
    assert (row.webhook_state, row.webhook_tries) == ("given up", 6)


def test_a_name_that_leads_into_this_network_is_not_asked(queue: JobQueue) -> None:
    job, receiver = ended(queue), Receiver(200)
    deliver(webhooks(queue, receiver, address="169.254.169.254"))
    assert receiver.requests == []
    assert queue.find("studio", job.name).webhook_state == "due"


def test_the_webhook_of_a_removed_client_is_not_sent(queue: JobQueue) -> None:
    job = ended(queue)
    deliver(webhooks(queue, Receiver(), clients=()))
    assert queue.find("studio", job.name).webhook_state == "given up"


@pytest.mark.parametrize(
    "url", ["http://example.com", "https://127.0.0.1/a", "https://box.local/", "nothing"]
)
def test_an_address_that_cannot_be_told_is_refused_when_it_is_posted(url: str) -> None:
    with pytest.raises(RequestError, match="webhook_url"):
        require_webhook(url, allow_loopback=False)
