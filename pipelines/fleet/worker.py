"""What carries out the rows of a batch: the interface that every place implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..request.base import WanRequest
from ..request.report import Finding

__all__ = [
    "BOUGHT",
    "LeaseLost",
    "LeftRunning",
    "MadeFile",
    "Needs",
    "Task",
    "Worker",
    "frames_times_steps",
    "work_of_fields",
]

BOUGHT = "fal"  # how the names of workers begin that buy


class LeaseLost(BaseException):
    """The row was given to another worker, or cancelled. No error: the attempt just ends."""


class LeftRunning(LeaseLost):
    """The process ends. What runs elsewhere and is paid for goes on, and is fetched by the next process."""


@dataclass(frozen=True)
class MadeFile:
    """A complete result. frames_sha256: of its receipt, if it says one."""

    path: Path
    frames_sha256: str | None


@dataclass(frozen=True)
class Task:
    """One attempt at a row.

    request: with its seed. folder: of this attempt alone. name: of the result, without suffix.
    attempt: its number in the journal, from 1.
    smaller: how often the row ran out of memory; above 0 a worker keeps less of the model on its device.
    beat:    extends the lease. Raises LeaseLost once the row is no longer this worker's, which then stops.
    """

    request: WanRequest
    folder: Path
    name: str
    attempt: int = 1
    smaller: int = 0
    beat: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Needs:
    """What a row takes at a place.

    work:    a number that grows with the time; only compared with that of other rows.
    seconds: as measured there. memory_bytes: of the device. usd: the most it may cost. None where unknown.
    least_bytes: of a device that streams the weights; with less memory the row cannot run. None: any does.
    findings: what every run of it there says.
    """

    work: float
    seconds: float | None = None
    memory_bytes: int | None = None
    least_bytes: int | None = None
    usd: float | None = 0.0
    findings: tuple[Finding, ...] = ()


def frames_times_steps(request: WanRequest) -> float:
    """Return the work of a request at a place that says no more of it."""
    return work_of_fields(request.payload())


def work_of_fields(asked: Mapping[str, Any]) -> float:
    """Return the work of a request from its fields alone: frames times steps; 1 for what they do not say."""
    return float(asked.get("num_frames") or 1) * float(asked.get("num_inference_steps") or 1)


class Worker(Protocol):
    """Carries out one row at a time. All methods block; each worker has a thread that calls `make`."""

    @property
    def place(self) -> str:
        """What kind of place it is: "local", "comfy", "ray", "fal". Workers of one place check alike."""

    @property
    def name(self) -> str:
        """Its name in the journal, unlike that of any other worker of the batch."""

    @property
    def lease_s(self) -> float | None:
        """After how many seconds without `Task.beat` it counts as lost. None: it ends with this process."""

    @property
    def memory_bytes(self) -> int | None:
        """The memory of its GPU. None: unknown, or it has none of its own."""

    def check(self, request: WanRequest) -> Needs:
        """Return what the request takes. Raises an error if it cannot run there."""

    def make(self, task: Task) -> MadeFile:
        """Write NAME with its suffix, and its receipt, into the folder of the task.

        Raises WorkerLostError if the worker ended or went silent, `FailedAttemptError` or another error if
        the row failed. May be called again after either.
        """

    def close(self) -> None:
        """End its processes and jobs. May be called while another thread is in `make`, which then raises."""
