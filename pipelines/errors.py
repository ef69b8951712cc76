"""Everything this package raises on purpose.

    WanDuetError
    ├── RequestError      a field of the request is wrong, or the runner cannot honour it
    ├── ModelError        a model file or folder is missing, unreadable or of the wrong kind
    │   └── LoraError     a LoRA that would do nothing, or not what its file says
    ├── DownloadError     a file of the web that could not be had, or must not be
    ├── SamplingError     the numbers went wrong while denoising
    ├── MediaError        a video or image could not be read or written
    ├── SafetyError       a checker flagged what goes in or comes out; nothing was written
    ├── KeyProblemError   a provider's key is missing, or cannot be used
    ├── RemoteError       a provider did not do its part, or was not asked to
    │   ├── NotAcceptedError   surely no job was made; asking again may help
    │   ├── RefusedError       surely no job was made, and the same request never will be one
    │   ├── AmbiguousError     nobody here knows whether a job was made
    │   ├── UnreachableError   no answer about a job or file; asking again costs nothing
    │   ├── JobFailedError     the job ended without a result
    │   ├── JobLostError       the provider no longer has the job or its file
    │   ├── JobStoppedError    the user stopped the job
    │   └── SpendingError      above what the user allows to be spent; nothing was sent
    ├── PackageError      a Python package that is needed is not installed
    ├── JournalError      the record of remote jobs cannot be read or written, so nothing may be bought
    └── HostError         a ComfyUI we started or talk to did not do its part

Each message says which field or file, what was found, and what would work. An interruption by the user is not
an error: the host's own exception (often a BaseException) passes through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AmbiguousError",
    "DownloadError",
    "HostError",
    "JobFailedError",
    "JobLostError",
    "JobStoppedError",
    "JournalError",
    "KeyProblemError",
    "LoraError",
    "MediaError",
    "ModelError",
    "Money",
    "NotAcceptedError",
    "PackageError",
    "Problem",
    "RefusedError",
    "RemoteError",
    "RequestError",
    "SafetyError",
    "SamplingError",
    "SpendingError",
    "UnreachableError",
    "WanDuetError",
    "is_out_of_memory",
]


class WanDuetError(Exception):
    """Root of the tree above."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field: `field` as in the request, what was `found`, and the `fix` that would
    work.
    """

    field: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.found}; {self.fix}"


class RequestError(WanDuetError):
    """A request that cannot be honoured. Carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def of(cls, field: str, found: str, fix: str) -> RequestError:
        return cls([Problem(field, found, fix)])


class ModelError(WanDuetError):
    """A model file or folder is missing, unreadable or of the wrong kind."""


class LoraError(ModelError):
    """A LoRA that would do nothing, or not what its file says."""


class DownloadError(WanDuetError):
    """A file of the web that could not be had, or must not be."""


class SamplingError(WanDuetError):
    """The numbers went wrong while denoising."""


class MediaError(WanDuetError):
    """A video or image could not be read or written."""


class SafetyError(WanDuetError):
    """A safety checker flagged what goes in or comes out, and nothing was written."""


class HostError(WanDuetError):
    """A ComfyUI we started or talk to did not do its part."""


class PackageError(WanDuetError):
    """A Python package that is needed is not installed."""


class KeyProblemError(WanDuetError):
    """A provider's key is missing, or cannot be used. Says nothing of the key itself."""


Money = Literal["none spent", "may have been spent", "spent"]


class RemoteError(WanDuetError):
    """A provider did not do its part, or was not asked to.

    provider:   "fal" or "novita".
    request_id: what the provider calls the job, None where there is none or it is not known.
    money:      what became of the user's money. Where a job may exist it is never "none spent".
    """

    def __init__(self, message: str, *, provider: str, money: Money, request_id: str | None = None) -> None:
        self.message, self.provider, self.money, self.request_id = message, provider, money, request_id
        about = f"request {request_id}, " if request_id else ""
        super().__init__(f"{provider}: {message} ({about}money: {money})")


class NotAcceptedError(RemoteError):
    """Surely no job was made; asking again may help."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, money="none spent")


class RefusedError(RemoteError):
    """Surely no job was made, and the same request never will be one. field: to blame, where that is told."""

    def __init__(self, message: str, *, provider: str, field: str | None = None) -> None:
        self.field = field
        super().__init__(f"{field}: {message}" if field else message, provider=provider, money="none spent")


class AmbiguousError(RemoteError):
    """Nobody here knows whether a job was made, so it must not be asked for again by itself."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, money="may have been spent")


class UnreachableError(RemoteError):
    """No answer about a job or a file; nothing has changed by it, and asking again costs nothing."""


class JobFailedError(RemoteError):
    """The job ended without a result."""


class JobLostError(RemoteError):
    """The provider no longer has the job, or the file it made."""


class JobStoppedError(RemoteError):
    """The user stopped the job."""


class SpendingError(RemoteError):
    """Above what the user allows to be spent, or of unknown price; nothing was sent."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, money="none spent")


class JournalError(WanDuetError):
    """The record of remote jobs cannot be read or written, so nothing may be bought."""


_FULL = (
    "out of memory",  # CUDA, ROCm, MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "can't allocate memory",  # a CPU
    "not enough memory",  # a CPU on Windows
    "not enough GPU video memory",  # DirectML
    "OUT_OF_DEVICE_MEMORY",  # the driver of Intel's cards
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether any device says with it that memory ran out. Costs no import of torch.

    torch has a type of its own for CUDA only; the others say it in words.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
