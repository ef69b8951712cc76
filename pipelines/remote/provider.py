"""The interface of a provider. `fal` and `novita` implement it.

A provider makes the calls and retries them within fixed times. It decides nothing about money: `job` decides
when to call it, `journal` records the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = [
    "Cancelled",
    "Downloaded",
    "JobStatus",
    "Outcome",
    "Payload",
    "Provider",
    "RemoteFile",
    "Submitted",
]

Payload = Mapping[str, Any]  # JSON as the provider takes it
Cancelled = Literal["cancelled", "too late", "not offered"]


@dataclass(frozen=True)
class Submitted:
    """The ids of a job at the provider.

    endpoint: as the request class states it. The addresses are the provider's own; None if it returned none
              that may be used.
    """

    endpoint: str
    request_id: str
    status_url: str | None = None
    response_url: str | None = None
    cancel_url: str | None = None


@dataclass(frozen=True)
class JobStatus:
    """The progress of a job.

    state:          "completed": there is a result. "failed": see `error`. "lost": the provider does not know
                    the job, after enough polls to rule out that it is new.
    queue_position: number of jobs ahead of it.
    percent:        0 to 100.
    log_lines:      what the model has printed so far, oldest line first.
    """

    state: Literal["queued", "running", "completed", "failed", "lost"]
    queue_position: int | None = None
    percent: float | None = None
    eta_s: float | None = None
    log_lines: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class RemoteFile:
    """A result file at a provider. expires_at: seconds since 1970; None if the provider does not say."""

    url: str
    content_type: str | None = None
    size_bytes: int | None = None
    expires_at: float | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a finished job.

    prompt:  the prompt that was used; None if the provider does not say.
    raw:     the provider's whole answer.
    charged: US dollars; None if the provider does not say.
    """

    files: tuple[RemoteFile, ...]
    seed: int | None
    prompt: str | None
    raw: Mapping[str, Any]
    charged: float | None = None


@dataclass(frozen=True)
class Downloaded:
    path: Path
    size_bytes: int
    sha256: str


class Provider(Protocol):
    """The calls of a provider.

    Each is bounded in time, and raises RemoteError without secrets in its text.
    """

    @property
    def name(self) -> str:
        """ "fal" or "novita"."""

    @property
    def can_cancel(self) -> bool:
        """Whether `cancel` stops a job; else it answers "not offered"."""

    @property
    def account(self) -> str:
        """Eight hex digits that identify the key. The key cannot be computed from them."""

    async def submit(self, endpoint: str, payload: Payload, *, job_id: str) -> Submitted:
        """Submit a job. This call costs money.

        payload: as sent, with the addresses of uploads in it.
        job_id:  our id, for tags that the provider may show to the user.

        Raises NotAcceptedError or RefusedError only if certainly no job exists. Any other failure after the
        first byte was sent is an AmbiguousError. Only what was certainly not accepted is retried.
        """

    async def status(self, job: Submitted) -> JobStatus:
        """Return the progress of a job.

        Raises UnreachableError if there is no answer in time, and another RemoteError if there never will be
        one (such as a key that is no longer valid).
        """

    async def result(self, job: Submitted) -> Outcome:
        """Return the result of a completed job.

        Each call returns new addresses if the provider signs them again.

        Raises JobFailedError if the result is an error of the model, JobLostError if it is no longer kept,
        and UnreachableError if there is no answer yet.
        """

    async def cancel(self, job: Submitted) -> Cancelled:
        """Cancel a job.

        Return "cancelled", "too late" (it was over already) or "not offered" (by this provider).

        After "cancelled" the job may still complete; `status` tells. May be called again for the same job.
        Raises UnreachableError if there is no answer.
        """

    async def reconcile(
        self, endpoint: str, payload: Payload, since: float
    ) -> Submitted | Literal["cannot tell"] | None:
        """Find the job of a submit whose answer was lost.

        payload: what was sent, in the form of `stored_form`; the provider's record must be converted to that
                 form before comparing.
        since:   when it was sent, in seconds since 1970.

        Returns the one job that matches; None if the provider's list is complete and has no such job, after
        as many polls as its delay needs; "cannot tell" without a list or permission, or if several jobs
        match.
        """

    async def download(
        self,
        file: RemoteFile,
        to: Path,
        *,
        progress: Callable[[int, int | None], None],
        check: Callable[[], None],
    ) -> Downloaded:
        """Write a result file to `to`, completely or not at all. An existing file is replaced.

        progress: called with the bytes so far, and the total if known.
        check:    raises to stop the download; its exception is passed on. A partial file may stay, for the
                  next call to resume.

        Raises JobLostError if the file no longer exists, UnreachableError if a retry may help, and another
        RemoteError if the content is not a result.
        """
