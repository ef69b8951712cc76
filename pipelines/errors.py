"""Everything this package raises on purpose.

    WanDuetError
    ├── RequestError      a field of the request is wrong, or the runner cannot honour it
    ├── ModelError        a model file or folder is missing, unreadable or of the wrong kind
    │   └── LoraError     a LoRA that would do nothing, or not what its file says
    ├── SamplingError     the numbers went wrong while denoising
    ├── MediaError        a video or image could not be read or written
    └── HostError         a ComfyUI we started or talk to did not do its part

Each message says which field or file, what was found, and what would work. An interruption by the user is not
an error: the host's own exception (often a BaseException) passes through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "HostError",
    "LoraError",
    "MediaError",
    "ModelError",
    "Problem",
    "RequestError",
    "SamplingError",
    "WanDuetError",
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


class SamplingError(WanDuetError):
    """The numbers went wrong while denoising."""


class MediaError(WanDuetError):
    """A video or image could not be read or written."""


class HostError(WanDuetError):
    """A ComfyUI we started or talk to did not do its part."""
