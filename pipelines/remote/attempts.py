"""Repeats a call as often as its policy allows."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from ..errors import AmbiguousError, Money, NotAcceptedError, RefusedError, RemoteError
from .retry import FailureKind, Policy, RetryTiming

__all__ = ["CallFailedError", "ErrorDetails", "repeat"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class ErrorDetails:
    """The error in an answer: its text, the field it names, and the provider's error type."""

    message: str
    field: str | None = None
    code: str | None = None


class CallFailedError(Exception):
    """A failed attempt. `as_error` converts the last one into the error that the rest of the program sees.

    status:  of the answer; None without an answer.
    headers: of the answer, with lower-case names.
    error:   the error class that the policy demands; set by `repeat`.
    """

    error: type[RemoteError] = RemoteError

    def __init__(
        self,
        failure_kind: FailureKind,
        reason: str,
        provider: str,
        *,
        status: int | None = None,
        details: ErrorDetails | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.failure_kind, self.provider, self.status, self.details = failure_kind, provider, status, details
        self.headers, self.retry_after_s = headers, retry_after_s

    def as_error(
        self,
        what: str,
        *,
        error: type[RemoteError] | None = None,
        money: Money = "none spent",
        request_id: str | None = None,
    ) -> RemoteError:
        """Return the error for the user.

        what:  the action that failed, such as "asking how far the job is".
        error: class to use instead of the policy's.
        """
        kind, message = error or self.error, f"{what}: {self}"
        if kind is RefusedError:
            field = None if self.details is None else self.details.field
            return RefusedError(message, provider=self.provider, field=field)
        if kind is NotAcceptedError:
            return NotAcceptedError(message, provider=self.provider)
        if kind is AmbiguousError:
            return AmbiguousError(message, provider=self.provider)
        return kind(message, provider=self.provider, money=money, request_id=request_id)


async def repeat(once: Callable[[], Awaitable[T]], policy: Policy, timing: RetryTiming) -> T:
    """Return the value of the first attempt that succeeds. Raises the CallFailedError of the last attempt.

    once: an async function that makes one attempt.

    A cancellation is not a failure: it ends an attempt or a wait at once.
    """
    begin = timing.now()

    def is_enough(attempts: RetryCallState) -> bool:
        attempts_allowed = policy.rules[_failure(attempts).failure_kind].attempts
        return attempts.attempt_number >= attempts_allowed or timing.now() - begin > policy.total_s

    attempts = AsyncRetrying(
        retry=retry_if_exception_type(CallFailedError),
        stop=is_enough,
        wait=lambda attempts: timing.wait_s(attempts.attempt_number, _failure(attempts).retry_after_s),
        sleep=timing.sleep,
        before_sleep=_log_wait,
        reraise=True,
    )
    try:
        return await attempts(once)
    except CallFailedError as failed:
        failed.error = policy.rules[failed.failure_kind].error
        raise


def _failure(attempts: RetryCallState) -> CallFailedError:
    """Return the error of the last attempt."""
    failed = attempts.outcome.exception() if attempts.outcome is not None else None
    if not isinstance(failed, CallFailedError):
        raise TypeError(f"only a failed call is repeated, not {failed!r}")
    return failed


def _log_wait(attempts: RetryCallState) -> None:
    failed = _failure(attempts)
    log.info("%s: %s; asking again in %.1f s", failed.provider, failed, attempts.upcoming_sleep)
