"""What the rest of this package needs of a provider. `fal` and `novita` implement it.

A provider does the talking and repeats what may be repeated, as often as its calls allow; it decides nothing
about money. `job` decides when to call what, `journal` remembers it.
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
    """What the provider calls a job, and where it wants to be asked about it.

    endpoint: as the request class states it. The addresses are the provider's own, None where it gave none
              that may be used.
    """

    endpoint: str
    request_id: str
    status_url: str | None = None
    response_url: str | None = None
    cancel_url: str | None = None


@dataclass(frozen=True)
class JobStatus:
    """How far a job is.

    state:          "completed" promises a result worth asking for; "failed" comes with `error`; "lost" says
                    that the provider does not know the job, after looks enough to rule out that it is new.
    queue_position: jobs ahead of this one.
    percent:        0 to 100.
    log_lines:      what the model has printed so far, the oldest first.
    """

    state: Literal["queued", "running", "completed", "failed", "lost"]
    queue_position: int | None = None
    percent: float | None = None
    eta_s: float | None = None
    log_lines: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class RemoteFile:
    """expires_at: seconds since 1970, None where the provider does not say."""

    url: str
    content_type: str | None = None
    size_bytes: int | None = None
    expires_at: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What a finished job gave.

    prompt:  the one that was really used, None where the provider does not tell.
    raw:     the provider's whole answer.
    charged: US dollars, None where the provider does not tell.
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
    """Every call is bounded in time, and raises RemoteError with nothing secret in its text."""

    @property
    def name(self) -> str:
        """ "fal" or "novita"."""

    @property
    def account(self) -> str:
        """Eight hex digits that tell one key from another, and from which no key can be found."""

    async def submit(self, endpoint: str, payload: Payload, *, job_id: str) -> Submitted:
        """Ask for a job. This is what costs money.

        payload: as it is sent; whatever had to be uploaded has its address in it.
        job_id:  ours, for tags that the provider may show to the user.

        Raises NotAcceptedError or RefusedError only when surely no job exists. Anything else that goes wrong
        once the first byte has left is AmbiguousError. Repeats by itself only what was surely not accepted.
        """

    async def status(self, job: Submitted) -> JobStatus:
        """Raises UnreachableError when there is no answer in time, another RemoteError when there never will
        be one (a key that is no longer valid).
        """

    async def result(self, job: Submitted) -> Outcome:
        """For a completed job. Each call gives addresses that are as fresh as the provider makes them.

        Raises JobFailedError when the result is an error of the model, JobLostError when it is no longer
        kept, UnreachableError when there is no answer yet.
        """

    async def cancel(self, job: Submitted) -> Cancelled:
        """ "cancelled": the provider has taken note; the job may yet complete, and `status` will tell.
        "too late": it was over already. "not offered": this provider cannot cancel.

        May be called again for the same job. Raises UnreachableError when there is no answer.
        """

    async def reconcile(
        self, endpoint: str, payload: Payload, since: float
    ) -> Submitted | Literal["cannot tell"] | None:
        """Look for the job of a submit whose answer was lost.

        payload: what was sent, in the form of `stored_form`; the provider's own record has to be
                 brought into that form before the two are compared.
        since:   when it was sent, seconds since 1970.

        Returns the one job that fits; None when the provider's list is complete and has no such job, after as
        many looks as its delay needs; "cannot tell" when there is no list, no permission, or several fit.
        """

    async def download(
        self,
        file: RemoteFile,
        to: Path,
        *,
        progress: Callable[[int, int | None], None],
        check: Callable[[], None],
    ) -> Downloaded:
        """Put a file of an outcome at `to`, whole or not at all; what was there is replaced.

        progress: told the bytes so far, and of how many.
        check:    raises when the download is to end; its exception comes out as it is. A part may stay behind
                  for the next call to go on from.

        Raises JobLostError when the address gives nothing any more, UnreachableError when asking again may
        help, another RemoteError when what came is not what was promised.
        """
