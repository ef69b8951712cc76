"""Decides whether a client may send one more job: its rate, its spending, the room in the queue."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ServiceError
from ..remote.spending_limits import start_of_day
from .client_keys import ServiceClient
from .job_queue import JobQueue

__all__ = ["Admission"]

_MINUTE_S = 60.0
_GUESS_S = 30  # until one job was measured, a full queue is looked at again after this time
_LONGEST_WAIT_S = 3600


@dataclass
class Admission:
    """The limits of all clients. lanes: how many jobs run at a time. clock: returns seconds; only grows."""

    queue: JobQueue
    most_waiting: int
    lanes: int
    clock: Callable[[], float]
    _sent: dict[str, deque[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_call(self, client: ServiceClient) -> None:
        """Count one more posted job. Raises ServiceError if it is too many for this minute."""
        if client.per_minute is None:
            return
        with self._lock:
            sent, now = self._sent.setdefault(client.name, deque()), self.clock()
            while sent and sent[0] <= now - _MINUTE_S:
                sent.popleft()
            if len(sent) >= client.per_minute:
                wait_s = sent[0] + _MINUTE_S - now if sent else _MINUTE_S
                message = f"more than {client.per_minute} jobs within a minute; send fewer"
                raise _too_many(message, "rate_limit_exceeded", math.ceil(wait_s))
            sent.append(now)

    def require_room(self, client: ServiceClient) -> None:
        """Raise ServiceError if the queue is full, or if the client may spend no more today."""
        waiting = self.queue.waiting()
        use = self.queue.use_of(client.name, start_of_day(self.queue.now()))
        if waiting >= self.most_waiting:
            each_s = _GUESS_S if use.longest_s is None else use.longest_s
            wait_s = min(max(math.ceil(each_s / self.lanes), 1), _LONGEST_WAIT_S)
            raise _too_many(f"{waiting} jobs wait already", "queue_full", wait_s)
        if client.usd_per_day is None:
            return
        if use.longest_s is None and use.open_jobs:
            message = "what a job costs is not known yet, and this key has a limit; wait until one is done"
            raise _too_many(message, "price_unknown", _GUESS_S)
        each = (use.longest_s or 0.0) / 3600 * self.queue.usd_per_hour
        expected = use.usd + each * (use.open_jobs + 1)
        if expected > client.usd_per_day + 1e-9:
            message = (
                f"this job may bring the cost of today to ${expected:.4f}, and the limit of this key is "
                f"${client.usd_per_day:.4f}; wait until tomorrow, or ask for a higher limit"
            )
            raise ServiceError(message, status=402, code="spend_limit_exceeded")


def _too_many(message: str, code: str, wait_s: int) -> ServiceError:
    return ServiceError(f"{message}; try again in {wait_s} s", status=429, code=code, retry_after_s=wait_s)
