"""Defines every error that this package raises on purpose.

    WanDuetError
    ├── RequestError      a field of the request is wrong or impossible for the runner
    ├── ModelError        a model file or folder is missing, unreadable or of the wrong kind
    │   ├── LoraError     a LoRA has no effect, or not the effect that its file states
    │   └── NoRoomError   the device has too little free memory for the run; nothing was loaded
    ├── DownloadError     a file cannot be downloaded, or must not be
    ├── SamplingError     the latents became invalid while denoising, or do not fit
    ├── MediaError        a video or image could not be read or written
    ├── SafetyError       a checker flagged the input or the result; nothing was written
    ├── KeyProblemError   the key of a provider is missing or cannot be used
    ├── RemoteError       a call to a provider failed, or was not made
    │   ├── NotAcceptedError   the provider certainly created no job; trying again may help
    │   ├── RefusedError       the provider certainly created no job, and will not for this request
    │   ├── AmbiguousError     it is unknown whether the provider created a job
    │   ├── UnreachableError   the provider did not answer about a job or file; trying again is free
    │   ├── JobFailedError     the job ended without a result
    │   ├── JobLostError       the provider no longer has the job or its file
    │   ├── JobStoppedError    the user stopped the job
    │   └── SpendingError      the price is above the user's limits; nothing was sent
    ├── PackageError      a required Python package is not installed
    ├── RankError         one of the processes that compute one video together failed or ended
    │   └── RankLostError     another one ended, so this one cannot go on
    ├── JournalError      the record of remote jobs cannot be read or written, so nothing can be bought
    ├── HostError         a ComfyUI that we started or called failed
    │   └── HostGoneError     it does not answer, or broke the connection
    ├── ServiceError      `wan-duet serve` does not do what a client asks
    └── WorkerLostError   what carried out a row of a batch ended or went silent; the row did not fail
        └── WorkerAbsentError    it could not be reached, so the row was not begun

Each message names the field or file, what was found, and what would work. An interruption by the user is not
an error: the host's own exception (often a BaseException) passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AmbiguousError",
    "DownloadError",
    "HostError",
    "HostGoneError",
    "JobFailedError",
    "JobLostError",
    "JobStoppedError",
    "JournalError",
    "KeyProblemError",
    "LoraError",
    "MediaError",
    "ModelError",
    "Money",
    "NoRoomError",
    "NotAcceptedError",
    "PackageError",
    "Problem",
    "RankError",
    "RankLostError",
    "RefusedError",
    "RemoteError",
    "RequestError",
    "SafetyError",
    "SamplingError",
    "ServiceError",
    "SpendingError",
    "UnreachableError",
    "WanDuetError",
    "WorkerAbsentError",
    "WorkerLostError",
    "is_out_of_memory",
    "says_out_of_memory",
]


class WanDuetError(Exception):
    """The root of the tree above."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a field: its name in the request, what was `found`, and a `fix` that would work."""

    field: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.found}; {self.fix}"


class RequestError(WanDuetError):
    """A request that is wrong or impossible. Has all problems that were found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, field: str, found: str, fix: str) -> RequestError:
        return cls([Problem(field, found, fix)])


class ModelError(WanDuetError):
    """A model file or folder is missing, unreadable or of the wrong kind."""


class LoraError(ModelError):
    """A LoRA that has no effect, or not the effect that its file states."""


class NoRoomError(ModelError):
    """The device has too little free memory for the run, as estimated before anything is loaded."""


class DownloadError(WanDuetError):
    """A file cannot be downloaded, or must not be."""


class SamplingError(WanDuetError):
    """The latents became invalid while denoising, or do not fit."""


class MediaError(WanDuetError):
    """A video or image could not be read or written."""


class SafetyError(WanDuetError):
    """A safety checker flagged the input or the result. Nothing was written."""


class HostError(WanDuetError):
    """A ComfyUI that we started or called failed."""


class HostGoneError(HostError):
    """A ComfyUI does not answer, or broke the connection. What it was doing may be lost."""


class WorkerLostError(WanDuetError):
    """What carried out a row of a batch ended or went silent. The row itself did not fail."""


class WorkerAbsentError(WorkerLostError):
    """What should carry out a row could not be reached, so the row was not begun."""


class ServiceError(WanDuetError):
    """`wan-duet serve` does not do what a client asks.

    status: of the HTTP answer. code: a word for programs. retry_after_s: when asking again may help.
    """

    def __init__(self, message: str, *, status: int, code: str, retry_after_s: int | None = None) -> None:
        self.status, self.code, self.retry_after_s = status, code, retry_after_s
        super().__init__(message)


class PackageError(WanDuetError):
    """A required Python package is not installed."""


class RankError(WanDuetError):
    """One of the processes that compute one video together failed or ended. The message names it."""


class RankLostError(RankError):
    """Another rank ended, so this one cannot go on."""


class KeyProblemError(WanDuetError):
    """The key of a provider is missing or cannot be used. The message never contains the key."""


Money = Literal["none spent", "may have been spent", "spent"]


class RemoteError(WanDuetError):
    """A call to a provider failed, or was not made.

    provider:   "fal" or "novita".
    request_id: the provider's id of the job. None if there is none or it is unknown.
    money:      what happened to the user's money. Never "none spent" if a job may exist.
    """

    def __init__(self, message: str, *, provider: str, money: Money, request_id: str | None = None) -> None:
        self.message, self.provider, self.money, self.request_id = message, provider, money, request_id
        about = f"request {request_id}, " if request_id else ""
        super().__init__(f"{provider}: {message} ({about}money: {money})")


class NotAcceptedError(RemoteError):
    """The provider certainly created no job. Trying again may help."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, money="none spent")


class RefusedError(RemoteError):
    """The provider certainly created no job, and will not for this request. field: the cause, if known."""

    def __init__(self, message: str, *, provider: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(f"{field}: {message}" if field else message, provider=provider, money="none spent")


class AmbiguousError(RemoteError):
    """It is unknown whether the provider created a job, so the submit must not be repeated automatically."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, money="may have been spent")


class UnreachableError(RemoteError):
    """The provider did not answer about a job or a file. Nothing changed, and trying again is free."""


class JobFailedError(RemoteError):
    """The job ended without a result."""


class JobLostError(RemoteError):
    """The provider no longer has the job or its file."""


class JobStoppedError(RemoteError):
    """The user stopped the job."""


class SpendingError(RemoteError):
    """The price is above the user's limits or unknown. Nothing was sent."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, money="none spent")


class JournalError(WanDuetError):
    """The record of remote jobs cannot be read or written, so nothing can be bought."""


_FULL = (
    "out of memory",  # CUDA, ROCm, MPS
    "_status_alloc_failed",  # cuBLAS, cuDNN 8, cuSPARSE
    "device_allocation_failed",  # cuDNN 9
    "outofmemoryerror",  # torch's type, as a ComfyUI reports it
    "can't allocate memory",  # a CPU
    "not enough memory",  # a CPU on Windows
    "not enough gpu video memory",  # DirectML
    "out_of_device_memory",  # the driver of Intel's cards
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error says that a device ran out of memory. Does not import torch.

    torch has its own type for CUDA only. Other devices only have a message.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def says_out_of_memory(text: str) -> bool:
    """Return whether the text of an error says that a device ran out of memory."""
    return any(words in text.lower() for words in _FULL)
