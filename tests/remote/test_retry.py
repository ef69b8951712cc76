"""What is repeated, how often, and after which wait."""

from __future__ import annotations

from datetime import datetime, timezone

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.remote.retry import (
    CANCEL,
    CHEAP,
    READ,
    SUBMIT,
    FailureKind,
    RetryTiming,
    failure_kind_of_error,
    failure_kind_of_status,
    retry_after_s,
)

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=timezone.utc)


@given(st.integers(100, 599))
def test_every_status_is_a_success_or_has_a_rule(status: int) -> None:
    failure_kind = failure_kind_of_status(status)
    assert (failure_kind is None) == (200 <= status < 300)
    for policy in (SUBMIT, READ, CANCEL, CHEAP):
        assert failure_kind is None or failure_kind in policy.rules


@pytest.mark.parametrize(
    ("error", "failure_kind"),
    [
        (httpx.ConnectError, "not sent"),
        (httpx.ConnectTimeout, "not sent"),
        (httpx.PoolTimeout, "not sent"),
        (httpx.ProxyError, "not sent"),
        (httpx.ReadTimeout, "lost"),
        (httpx.ReadError, "lost"),
        (httpx.WriteError, "lost"),
        (httpx.WriteTimeout, "lost"),
        (httpx.RemoteProtocolError, "lost"),
        (httpx.LocalProtocolError, "lost"),
    ],
)
def test_only_what_comes_before_the_first_byte_was_surely_not_sent(
    error: type[httpx.TransportError], failure_kind: FailureKind
) -> None:
    assert failure_kind_of_error(error("x")) == failure_kind
    assert all(failure_kind in policy.rules for policy in (SUBMIT, READ, CANCEL, CHEAP))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("100000", 120.0),
        ("Fri, 20 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 11:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2026 12:00:00 GMT", 120.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("٣", None),
        (None, None),
    ],
)
def test_the_wait_that_is_asked_for(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@given(st.text())
def test_no_header_breaks_the_wait(value: str) -> None:
    seconds = retry_after_s(value, NOW)
    assert seconds is None or 0.0 <= seconds <= 120.0


def test_waits_grow_and_end_at_half_a_minute() -> None:
    timing = RetryTiming(jitter=lambda: 1.0)
    waits = [timing.wait_s(attempt, None) for attempt in range(1, 12)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
    assert timing.wait_s(1, 12.0) == 12.0
