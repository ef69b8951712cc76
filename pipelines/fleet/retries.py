"""Decides from the cause of a failure whether a row is tried again, where, and how often."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import (
    JournalError,
    NoRoomError,
    NotAcceptedError,
    RefusedError,
    SpendingError,
    WanDuetError,
    WorkerAbsentError,
    WorkerLostError,
    is_out_of_memory,
)

__all__ = ["REMEDIES", "Cause", "FailedAttemptError", "Remedy", "cause_of", "told_failure"]

Cause = Literal["out of memory", "lost", "absent", "refused", "failed"]


@dataclass(frozen=True)
class Remedy:
    """What helps against a cause.

    attempts:  at most so many of one row in one run end with this cause; then the row has failed. None: any.
    loses:     the worker gets no rows for a while.
    smaller:   the next attempt keeps less of the model on the device.
    elsewhere: from which attempt on the row avoids the workers that had it, if there are others. 0: never.
    leaves:    the row can no longer run at that place, only at others.
    """

    attempts: int | None
    loses: bool = False
    smaller: bool = False
    elsewhere: int = 0
    leaves: bool = False


REMEDIES: Mapping[Cause, Remedy] = {
    "out of memory": Remedy(attempts=3, smaller=True, elsewhere=2),
    "lost": Remedy(attempts=5, loses=True, elsewhere=1),
    "absent": Remedy(attempts=None, loses=True, elsewhere=1),  # the row was not begun
    "refused": Remedy(attempts=None, leaves=True),  # by a provider, or the user's limits: nothing was bought
    "failed": Remedy(attempts=1),  # a wrong request, a missing file, a full disk: the same again everywhere
}


class FailedAttemptError(WanDuetError):
    """An attempt that failed in another process. cause: what that process made of its error."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause: Cause = cause


def cause_of(error: BaseException) -> Cause | None:
    """Return why an attempt failed. None: the user's stop or a fault of this program, which end the batch."""
    if isinstance(error, FailedAttemptError):
        return error.cause
    if isinstance(error, (WorkerAbsentError, NotAcceptedError)):  # the second: nothing was bought
        return "absent"
    if isinstance(error, WorkerLostError):
        return "lost"
    if isinstance(error, (RefusedError, SpendingError)):
        return "refused"
    if isinstance(error, NoRoomError) or is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, (WanDuetError, OSError)) and not isinstance(error, JournalError):
        return "failed"
    return None


def told_failure(error: Exception) -> dict[str, str]:
    """Return what another process is told of a failed attempt. Prints a fault of this program."""
    cause = cause_of(error)
    if cause is None:
        traceback.print_exc()
    return {"failed": cause or "failed", "error": str(error) if cause else f"{type(error).__name__}: {error}"}
