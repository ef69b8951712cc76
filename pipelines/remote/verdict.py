"""What becomes of a job that gave no result just now: the whole table, as data.

Proxies, portals and fresh objects answer 404, 403 or 500 for a while, and the result lies safely behind them.
So a job is looked at several times, then left open, and given up only when the provider says that it failed,
or need not keep the result any longer. A job that is open is never bought again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import JobFailedError, JobLostError, RemoteError, UnreachableError
from .job_context import JobContext
from .job_record import Job

__all__ = ["VERDICTS", "Absence", "Heard", "Phase", "Verdict", "heard_in", "left_open"]

Heard = Literal["failed", "not there", "refused", "no answer"]
Phase = Literal["patient", "kept", "expired"]
Verdict = Literal["look again", "leave open", "failed", "lost", "cancelled"]

_OPEN: tuple[Verdict, Verdict, Verdict] = ("look again", "leave open", "leave open")

# (what was heard, whether the user wants it stopped) -> the verdict in each phase: while we are patient, then
# while the provider keeps results, then after that.
VERDICTS: Mapping[tuple[Heard, bool], tuple[Verdict, Verdict, Verdict]] = {
    ("failed", False): ("failed", "failed", "failed"),
    ("not there", False): ("look again", "leave open", "lost"),
    ("refused", False): _OPEN,
    ("no answer", False): _OPEN,
    ("failed", True): ("cancelled", "cancelled", "cancelled"),
    ("not there", True): ("look again", "cancelled", "cancelled"),
    ("refused", True): _OPEN,
    ("no answer", True): _OPEN,
}
_PHASES: tuple[Phase, ...] = ("patient", "kept", "expired")


def heard_in(error: RemoteError) -> Heard:
    """What an error says about the job."""
    if isinstance(error, JobFailedError):
        return "failed"
    if isinstance(error, JobLostError):
        return "not there"
    return "no answer" if isinstance(error, UnreachableError) else "refused"


@dataclass
class Absence:
    """Since when a job, its result or its file cannot be had.

    seen:  when this process last saw it at the provider, by `JobClock.elapsed`; None when it never did. The
           wall clock, which anybody may set, counts only for what an earlier process saw.
    began: of the first look in a row that brought nothing.
    """

    context: JobContext
    seen: float | None = None
    began: float | None = None

    def see(self) -> None:
        """The provider has the job. What it has completed it need not keep longer for being looked at."""
        self.seen = self.context.clock.elapsed()

    def end(self) -> None:
        """A look brought what was wanted."""
        self.began = None

    def verdict(self, job: Job, error: RemoteError) -> Verdict:
        """What to do after another look that brought nothing but `error`."""
        heard, now = heard_in(error), self.context.clock.elapsed()
        if self.began is None:
            self.began = now
        verdicts = VERDICTS[heard, job.stop_asked]
        return verdicts[_PHASES.index(self._phase(job, heard, now - self.began))]

    def _phase(self, job: Job, heard: Heard, lasted: float) -> Phase:
        times, is_kept = self.context.poll_times, self._is_kept(job)
        if job.stop_asked:
            patience = times.grace
        elif heard == "no answer":
            patience = times.silent
        else:
            patience = times.missing if is_kept else times.expired
        if lasted < patience:
            return "patient"
        return "kept" if is_kept else "expired"

    def _is_kept(self, job: Job) -> bool:
        clock = self.context.clock
        if self.seen is not None:
            age = clock.elapsed() - self.seen
        else:
            age = clock.now() - (job.completed_at or job.known_at or job.sent_at or job.created_at)
        return age < self.context.poll_times.kept


def left_open(job: Job, error: RemoteError) -> RemoteError:
    """`error`, with what the user can do while the job stays open."""
    text = (
        f"{error.message}. The job stays open: the same request, or `wan-duet jobs attach {job.job_id[:8]}`, "
        "looks again and buys nothing"
    )
    kind = UnreachableError if isinstance(error, JobLostError) else type(error)
    return job.as_error(kind, text)
