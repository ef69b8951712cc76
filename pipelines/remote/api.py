"""Calls the JSON API of one provider, sends the key with every request, and retries as a policy allows.

An httpx.Client is not used: it logs whole addresses, keeps cookies and takes proxies from the environment. A
submit gets a new connection: a kept one may be closed just when it is used, and then nobody could tell
whether the job was created.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from ..download.public_web import tls
from .attempts import CallFailedError, ErrorDetails, repeat
from .redaction import Redaction, one_line
from .retry import (
    FailureKind,
    Policy,
    RetryTiming,
    failure_kind_of_error,
    failure_kind_of_status,
    retry_after_s,
)

__all__ = ["Answer", "Api", "Timeouts", "same_origin"]

_LARGEST_ANSWER = 8 * 2**20  # bytes
_CONNECTIONS = 16  # fifty jobs that look every few seconds need no more


@dataclass(frozen=True)
class Timeouts:
    """Timeouts in seconds. answer: of one whole call, however slowly its answer arrives."""

    connect: float = 10.0
    read: float = 60.0
    write: float = 120.0
    pool: float = 30.0
    answer: float = 180.0

    def as_dict(self) -> dict[str, float]:
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool}


@dataclass(frozen=True)
class Answer:
    """The answer of a call.

    body: its text, with the key removed if it occurs there.
    data: its JSON object; {} if it is none.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)


class Api:
    """The API of one provider.

    bases:   the only base addresses that the key is sent to.
    explain: reads the error details of an answer that is no success.
    proxy:   for all connections. It sees their hosts, not their contents.
    """

    def __init__(
        self,
        provider: str,
        authorization: str,
        redaction: Redaction,
        bases: tuple[str, ...],
        explain: Callable[[Mapping[str, Any]], ErrorDetails | None],
        *,
        timing: RetryTiming,
        timeouts: Timeouts,
        proxy: str | None = None,
    ) -> None:
        self._provider, self._authorization, self._redaction = provider, authorization, redaction
        self._bases, self._explain, self._timing, self._timeouts = bases, explain, timing, timeouts
        some = httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=5.0)
        none_kept = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0)
        self._kept = httpx.AsyncHTTPTransport(verify=tls(), limits=some, proxy=proxy)
        self._fresh = httpx.AsyncHTTPTransport(verify=tls(), limits=none_kept, proxy=proxy)

    async def close(self) -> None:
        await self._kept.aclose()
        await self._fresh.aclose()

    async def call(
        self,
        policy: Policy,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        fresh: bool = False,
        needs_json: bool = True,
    ) -> Answer:
        """Return the answer of a call, a JSON object unless `needs_json` is off.

        Raises CallFailedError as `policy` says.

        fresh: use a new connection.
        """
        if not any(same_origin(url, base) for base in self._bases):
            raise ValueError(f"{one_line(url)}: the key is not sent to this address")
        sent = {
            "Authorization": self._authorization,
            "User-Agent": "wan-duet",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **(headers or {}),
        }
        where = httpx.URL(url, params=dict(params)) if params else url
        content = None if body is None else dict(body)
        extensions = {"timeout": self._timeouts.as_dict()}

        async def once() -> Answer:
            request = httpx.Request(method, where, headers=sent, json=content, extensions=extensions)
            return await self._once(request, fresh, needs_json)

        return await repeat(once, policy, self._timing)

    async def _once(self, request: httpx.Request, fresh: bool, needs_json: bool) -> Answer:
        try:
            answer = await asyncio.wait_for(self._exchange(request, fresh), self._timeouts.answer)
        except httpx.TransportError as error:
            reason = one_line(self._redaction.text(f"{type(error).__name__} {error}"))
            raise self._failed(failure_kind_of_error(error), reason) from None
        except (httpx.DecodingError, httpx.StreamError) as error:
            raise self._failed("lost", f"the answer cannot be read: {type(error).__name__}") from None
        except asyncio.TimeoutError:
            raise self._failed("lost", f"no whole answer within {self._timeouts.answer:.0f} s") from None
        failure_kind = failure_kind_of_status(answer.status)
        if failure_kind is not None:
            details = self._explain(answer.data)
            text = details.message if details else one_line(answer.body.decode("utf-8", "replace"), 120)
            if failure_kind == "moved":
                to = one_line(answer.headers.get("location", "an address it does not name"), 200)
                text = (
                    f"moved to {to}, which is not followed with a key; update Wan Duet, or check the network"
                )
            if answer.status in (401, 403):
                text = f"{text}; check the key and the account"
            raise CallFailedError(
                failure_kind,
                f"answered {answer.status}: {text}" if text else f"answered {answer.status}",
                self._provider,
                status=answer.status,
                details=details,
                headers=answer.headers,
                retry_after_s=retry_after_s(answer.headers.get("retry-after")),
            )
        if needs_json and not answer.data:
            raise self._failed("lost", f"answered {answer.status} without a JSON object")
        return answer

    async def _exchange(self, request: httpx.Request, fresh: bool) -> Answer:
        response = await (self._fresh if fresh else self._kept).handle_async_request(request)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _LARGEST_ANSWER:
                    raise self._failed("lost", f"the answer is larger than {_LARGEST_ANSWER // 2**20} MiB")
        finally:
            await response.aclose()
        clean, data = self._read(bytes(body))
        headers = {name.lower(): self._redaction.text(value) for name, value in response.headers.items()}
        return Answer(response.status_code, headers, clean, data if isinstance(data, dict) else {})

    def _read(self, body: bytes) -> tuple[bytes, Any]:
        """The body and what it says as JSON, None where it is none: without the key, and fit to be written.

        JSON can spell a key in escapes, half a character, and numbers that are none; a journal or a receipt
        takes none of them, and what is paid for must not be lost to that.
        """
        text = self._redaction.text(body.decode("utf-8-sig", "replace"))
        try:
            data = json.loads(text, parse_constant=_nothing, parse_float=_finite)
            if "\\u" in text:
                plain = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()
                text = self._redaction.text(plain)
                data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        return text.encode(), data

    def _failed(self, failure_kind: FailureKind, reason: str) -> CallFailedError:
        return CallFailedError(failure_kind, reason, self._provider)


def _nothing(word: str) -> None:
    """Return None in place of NaN and Infinity."""
    del word


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def same_origin(url: str, base: str) -> bool:
    """Return whether both have the same scheme, host and port, and `url` has no user."""
    try:
        one, other = httpx.URL(url), httpx.URL(base)
    except (httpx.InvalidURL, TypeError):
        return False
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port) and not one.userinfo
