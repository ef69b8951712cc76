"""The events of a job, for those who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .job_record import Job

__all__ = ["JobEvent", "OnEvent", "job_event"]


@dataclass(frozen=True)
class JobEvent:
    """The progress of a job.

    step:         "preparing" (uploads), "sending", "queued", "running", "downloading", "stopping", or
                  "waiting" for another process that works on the job.
    log_line:     the last line that the model printed.
    bytes_done:   of `bytes_total`, while downloading.
    """

    job_id: str
    step: str
    elapsed_s: float
    price: str
    queue_position: int | None = None
    percent: float | None = None
    eta_s: float | None = None
    log_line: str | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None

    def text(self) -> str:
        """Return one line, such as "queued #3 · 00:42 · about $0.40"."""
        minutes, seconds = divmod(int(self.elapsed_s), 60)
        step = self.step if self.queue_position is None else f"{self.step} #{self.queue_position}"
        return " · ".join(
            part
            for part in (
                step,
                "" if self.percent is None else f"{self.percent:.0f} %",
                f"{minutes:02}:{seconds:02}",
                "" if not self.eta_s else f"about {self.eta_s:.0f} s to go",
                "" if self.bytes_done is None else _megabytes(self.bytes_done, self.bytes_total),
                self.log_line or "",
                self.price,
            )
            if part
        )


OnEvent = Callable[[JobEvent], None]


def job_event(job: Job, step: str, now: float, **more: Any) -> JobEvent:
    """Return the event of a job.

    now:  seconds since 1970.
    more: fields of JobEvent that are known in this step.
    """
    price = "price unknown" if job.price_usd is None else job.price_text.partition(" (")[0]
    return JobEvent(job.job_id, step, max(0.0, now - (job.sent_at or job.created_at)), price, **more)


def _megabytes(done: int, total: int | None) -> str:
    return f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
