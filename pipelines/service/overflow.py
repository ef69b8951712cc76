"""Buys jobs at a provider while too many wait here, within the limits of their clients and of the day.

A price counts from the moment a job is given to the provider, at its highest, so that no limit is passed by
jobs that run at the same time. A job whose purchase began stays there: it may be paid for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import WanDuetError
from ..remote.spending_limits import start_of_day
from ..request.base import WanRequest
from ..request.parse import parse
from .client_keys import ServiceClient
from .job_queue import JobQueue
from .served_job import ServedJob

__all__ = ["Overflow"]

log = logging.getLogger(__name__)


@dataclass
class Overflow:
    """Which jobs are bought, and when.

    price:       returns the most that a request may cost in US dollars, None if that is unknown. Raises an
                 error for a request that cannot run there.
    above:       jobs are bought only while more than so many wait.
    usd_per_day: what all bought jobs of a calendar day may cost together.
    """

    queue: JobQueue
    clients: Callable[[], list[ServiceClient]]
    price: Callable[[WanRequest], float | None]
    above: int
    usd_per_day: float
    _prices: dict[str, float | None] = field(default_factory=dict)  # by job; None: never bought
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, place: str) -> ServedJob | None:
        """Begin an attempt of a job at `place`, or return None if none should be bought now."""
        with self._lock:
            waiting = self.queue.waiting_jobs()
            begun = next((job for job in waiting if job.is_bought), None)
            if begun is not None:
                return self.queue.buy(begun, place, 0.0)
            self._prices = {job.name: self._prices[job.name] for job in waiting if job.name in self._prices}
            if len(waiting) <= self.above:
                return None
            for job in waiting:
                usd = self._price_of(job)
                if usd is not None and self._is_within_limits(job, usd):
                    log.info("%s: bought at %s for at most $%.4f", job.name, place, usd)
                    return self.queue.buy(job, place, usd)
            return None

    def hand_back(self, job: ServedJob, reason: str) -> None:
        """Let a job that was not bought wait for a worker here."""
        with self._lock:
            log.warning("%s: not bought: %s", job.name, reason)
            self.queue.hand_back(job, self._prices.get(job.name) or 0.0)
            self._prices[job.name] = None

    def _price_of(self, job: ServedJob) -> float | None:
        if job.name not in self._prices:
            self._prices[job.name] = self._asked_price(job)
        return self._prices[job.name]

    def _asked_price(self, job: ServedJob) -> float | None:
        """Return the price of a job. LoRAs lie in folders of this service and are not given away."""
        fields = job.request_fields()
        if fields.get("loras"):
            return None
        try:
            return self.price(parse(job.kind, fields))
        except (WanDuetError, OSError):
            return None

    def _is_within_limits(self, job: ServedJob, usd: float) -> bool:
        client = next((one for one in self.clients() if one.name == job.client), None)
        today = start_of_day(self.queue.now())
        if client is None or self.queue.bought_usd(today) + usd > self.usd_per_day + 1e-9:
            return False
        if client.usd_per_day is None:
            return True
        use = self.queue.use_of(client.name, today)
        each = (use.longest_s or 0.0) / 3600 * self.queue.usd_per_hour
        return use.usd + each * (use.open_jobs - 1) + usd <= client.usd_per_day + 1e-9
