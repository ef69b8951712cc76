"""How calls to a provider are retried: the whole table, as data.

A rule states how many attempts are made in all, and which error is raised after the last. Only a submit can
cost money, so it is repeated only if the provider certainly did not take it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Literal, NamedTuple

import httpx

from ..errors import AmbiguousError, NotAcceptedError, RefusedError, RemoteError, UnreachableError

__all__ = [
    "CANCEL",
    "CHEAP",
    "ONCE",
    "READ",
    "SUBMIT",
    "FailureKind",
    "Policy",
    "RetryRule",
    "RetryTiming",
    "failure_kind_of_error",
    "failure_kind_of_status",
    "retry_after_s",
]

FailureKind = Literal["not sent", "busy", "timed out", "gateway", "crash", "lost", "moved", "refused"]
_LONGEST_WAIT_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0


class RetryRule(NamedTuple):
    attempts: int
    error: type[RemoteError]


@dataclass(frozen=True)
class Policy:
    """The rule of each kind of failure.

    total_s: no attempt begins later than this many seconds after the first.
    """

    rules: Mapping[FailureKind, RetryRule]
    total_s: float = 180.0


def _policy(**rules: RetryRule) -> Policy:
    return Policy(MappingProxyType({name.replace("_", " "): rule for name, rule in rules.items()}))  # type: ignore[misc]


_ONCE = RetryRule(1, AmbiguousError)
SUBMIT = _policy(
    not_sent=RetryRule(4, NotAcceptedError),
    busy=RetryRule(4, NotAcceptedError),
    timed_out=_ONCE,
    gateway=_ONCE,  # an ingress may lose the answer of a queue that took the job
    crash=_ONCE,
    lost=_ONCE,
    moved=_ONCE,
    refused=RetryRule(1, RefusedError),
)
READ = _policy(
    not_sent=RetryRule(6, UnreachableError),
    busy=RetryRule(6, UnreachableError),
    timed_out=RetryRule(6, UnreachableError),
    gateway=RetryRule(6, UnreachableError),
    crash=RetryRule(6, UnreachableError),
    lost=RetryRule(6, UnreachableError),
    moved=RetryRule(1, RemoteError),
    refused=RetryRule(1, RemoteError),
)


def _at_most(attempts: int, rule: RetryRule) -> RetryRule:
    return RetryRule(min(attempts, rule.attempts), rule.error)


# Repeating these costs nothing, and somebody waits for them to end.
CANCEL = Policy({name: _at_most(3, rule) for name, rule in READ.rules.items()}, 30.0)
CHEAP = Policy({name: _at_most(4, rule) for name, rule in READ.rules.items()})
ONCE = Policy({name: RetryRule(1, rule.error) for name, rule in READ.rules.items()})


@dataclass(frozen=True)
class RetryTiming:
    """The clock of the retries. jitter: factor of each wait."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5)  # noqa: S311

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Return how many seconds to wait after an attempt (1 is the first).

        retry_after_s: the wait that the provider asked for; None if it did not.
        """
        if retry_after_s is not None:
            return retry_after_s
        return min(_LONGEST_WAIT_S, 0.25 * 2.0**attempt) * self.jitter()


def failure_kind_of_status(status: int) -> FailureKind | None:
    """Return the kind of failure of an HTTP status (100 to 599). None for success (2xx)."""
    if 200 <= status < 300:
        return None
    if status in (301, 308):
        return "moved"  # for good, so the same call gets no better
    if status in (425, 429):
        return "busy"
    if status == 408:
        return "timed out"
    if status == 500:
        return "crash"
    if 400 <= status < 500:
        return "refused"
    return "gateway"  # 502, 503, 504, and what only something in between can say


def failure_kind_of_error(error: httpx.TransportError) -> FailureKind:
    """Return "not sent" if the error came before the request was sent, else "lost": it may have arrived."""
    before = (
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.ProxyError,  # of its CONNECT: plain http never goes through one
        httpx.UnsupportedProtocol,
    )
    return "not sent" if isinstance(error, before) else "lost"


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds a Retry-After header asks for, at most 120. None if it is missing or malformed.

    value: a number of seconds or a date (RFC 9110, 10.2.3).
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    seconds = (when - (now or datetime.now(timezone.utc))).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
