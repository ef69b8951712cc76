"""The spending limits. Every paid job begins in `begin_job`, which checks them first."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..errors import JournalError, SpendingError
from ..request.prices import Price
from .job_context import JobContext
from .job_record import Job, Order
from .journal import Spent

__all__ = ["SpendingLimits", "begin_job", "require_within", "start_of_day"]


@dataclass(frozen=True)
class SpendingLimits:
    """US dollars that one run, and all runs of one calendar day, may cost; None is no limit.

    late_after_s: when to tell the user that a job takes long, in seconds.
    cancel_late:  then also cancel it.
    """

    per_run_usd: float | None = None
    per_day_usd: float | None = None
    late_after_s: float = 3600.0
    cancel_late: bool = False


def begin_job(
    order: Order, context: JobContext, limits: SpendingLimits, *, reuse: bool, resubmit: bool
) -> Job:
    """Return the job of an order: an equal one that is open or finished, or a new one within the limits.

    reuse, resubmit: as in `Journal.begin`. Raises SpendingError, JournalError.
    """
    try:
        return context.journal.begin(
            order,
            context.provider.account,
            context.owner,
            reuse=reuse,
            resubmit=resubmit,
            allow=lambda spent: require_within(limits, order.price, spent, order.provider),
            since=start_of_day(context.clock.now()),
        )
    except JournalError as error:
        raise JournalError(f"{error}; nothing was bought") from error


def require_within(limits: SpendingLimits, price: Price, spent: Spent, provider: str) -> None:
    """Raise SpendingError when the run may go over a limit, which an unknown price always may.

    spent: today. A price that is between two numbers counts as the higher one.
    """
    if limits.per_run_usd is not None:
        _require(price, 0.0, limits.per_run_usd, "run", provider)
    if limits.per_day_usd is None:
        return
    if spent.jobs_of_unknown_price:
        raise SpendingError(
            f"the limit is ${limits.per_day_usd:.2f} per day, and what {spent.jobs_of_unknown_price} of the "
            "jobs of today cost is unknown; run tomorrow, or remove the limit",
            provider=provider,
        )
    _require(price, spent.usd, limits.per_day_usd, "day", provider)


def start_of_day(now: float) -> float:
    """The last midnight where this machine is, in seconds since 1970."""
    here = time.localtime(now)
    return time.mktime((here.tm_year, here.tm_mon, here.tm_mday, 0, 0, 0, 0, 0, -1))


def _require(price: Price, spent_usd: float, limit_usd: float, span: str, provider: str) -> None:
    if price.high is None:
        raise SpendingError(
            f"the price is {price.text()} and there is a limit of ${limit_usd:.2f} per {span}; state a price "
            "of your own for it, or remove the limit",
            provider=provider,
        )
    if spent_usd + price.high > limit_usd + 1e-9:  # ten times 0.1 is a whole dollar
        before = f" on top of ${spent_usd:.2f} spent today" if spent_usd else ""
        raise SpendingError(
            f"the run may cost ${price.high:.2f}{before}, and the limit is ${limit_usd:.2f} per {span}; ask "
            "for less, or raise the limit",
            provider=provider,
        )
