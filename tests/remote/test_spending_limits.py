"""What the gate promises: no job above a limit, none of unknown price under one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_duet.pipelines.errors import SpendingError
from wan_duet.pipelines.remote.job_context import JobContext
from wan_duet.pipelines.remote.job_record import Order
from wan_duet.pipelines.remote.journal import Spent
from wan_duet.pipelines.remote.spending_limits import SpendingLimits, begin_job, require_within, start_of_day
from wan_duet.pipelines.request.prices import Price

NOTHING = Spent(0.0, 0)
UNKNOWN = Price(None, None, None, "no page names it")


def price(usd: float, high: float | None = None) -> Price:
    return Price(usd, usd, high or usd, "per video", "a page", "2026-08")


def test_without_limits_everything_passes() -> None:
    require_within(SpendingLimits(), price(1000.0), Spent(1e6, 3), "fal")
    require_within(SpendingLimits(), UNKNOWN, Spent(1e6, 3), "fal")


@pytest.mark.parametrize(
    ("limits", "cost", "spent", "told"),
    [
        (
            SpendingLimits(per_run_usd=0.5),
            price(0.51),
            NOTHING,
            "may cost $0.51, and the limit is $0.50 per run",
        ),
        (SpendingLimits(per_run_usd=0.5), price(0.4, 0.6), NOTHING, "may cost $0.60"),
        (SpendingLimits(per_day_usd=1.0), price(0.4), Spent(0.7, 0), "$0.40 on top of $0.70 spent today"),
        (SpendingLimits(per_run_usd=0.5), UNKNOWN, NOTHING, "no page names it"),
        (SpendingLimits(per_day_usd=0.5), UNKNOWN, NOTHING, "state a price of your own"),
        (SpendingLimits(per_day_usd=9.0), price(0.1), Spent(0.0, 2), "2 of the jobs of today"),
    ],
)
def test_above_a_limit_or_of_unknown_price_is_refused(
    limits: SpendingLimits, cost: Price, spent: Spent, told: str
) -> None:
    with pytest.raises(SpendingError) as caught:
        require_within(limits, cost, spent, "fal")
    assert told in str(caught.value)
    assert caught.value.money == "none spent"


@given(st.floats(0, 2), st.floats(0, 5), st.floats(0, 5))
def test_an_admitted_run_never_costs_more_than_the_day_allows(
    cost: float, spent: float, limit: float
) -> None:
    try:
        require_within(SpendingLimits(per_day_usd=limit), price(cost), Spent(spent, 0), "fal")
    except SpendingError:
        assert spent + cost > limit
    else:
        assert spent + cost <= limit + 1e-6


def test_ten_times_a_tenth_is_a_whole() -> None:
    spent = sum([0.1] * 9)
    require_within(SpendingLimits(per_day_usd=1.0), price(0.1), Spent(spent, 0), "fal")


def test_a_day_begins_at_the_midnight_of_this_machine() -> None:
    noon = time.mktime((2026, 11, 20, 12, 30, 5, 0, 0, -1))
    assert noon - start_of_day(noon) == 12 * 3600 + 30 * 60 + 5


def test_the_limit_of_the_day_counts_open_jobs_and_forgets_yesterday(
    context: JobContext, order: Callable[..., Order], clock: object
) -> None:
    limits = SpendingLimits(per_day_usd=0.1)  # a job of the fixture costs at most 0.06
    begin_job(order(prompt="1"), context, limits, reuse=True, resubmit=False)
    with pytest.raises(SpendingError):
        begin_job(order(prompt="2"), context, limits, reuse=True, resubmit=False)
    begin_job(
        order(prompt="1"), context, limits, reuse=True, resubmit=False
    )  # the job it is, not another one
    context.clock.time += 24 * 3600  # type: ignore[attr-defined]
    begin_job(order(prompt="2"), context, limits, reuse=True, resubmit=False)
