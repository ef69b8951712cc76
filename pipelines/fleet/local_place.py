"""Carries out the rows of a batch in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..device.memory import DeviceMemory, Memory
from ..generate.checked_run import Checked
from ..generate.film_run import check_shots
from ..generate.local_worker import LocalWorker
from ..generate.memory_estimate import estimate_memory
from ..generate.stored_findings import stored_work
from ..loading.wan_model import WanModel
from ..plan.expectation import Rates, expect_all, rates_of_work, unmeasured
from ..plan.flops import size_of, tokens_of
from ..plan.plan import Plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.shots import is_film
from ..video.frame_hash import FRAMES_SHA256
from ..video.local_file import FindFile, any_file
from ..video.output import suffix_of
from .worker import MadeFile, Needs, Task

__all__ = ["LocalPlace"]

_SMALLEST = "ring"  # residency: three blocks at a time


@dataclass(frozen=True)
class LocalPlace:
    """This machine, as a `Worker` of a batch.

    rates:   measured here, if they were.
    media, find: of all requests, as for `local_run.run`.
    options: further ones of `LocalWorker.run`.
    """

    worker: LocalWorker
    place: str = "local"
    name: str = "local"
    lease_s: float | None = None
    rates: Rates | None = None
    media: Mapping[str, Path] = field(default_factory=dict)
    find: FindFile = any_file
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> int | None:
        memory = self.worker.memory
        return None if memory.device.type == "cpu" else memory.total_bytes()

    def settings(self) -> dict[str, Any]:
        """Return what decides the results beside the requests."""
        model = self.worker.model
        loras = [[lora.file.name, lora.expert, lora.strength] for lora in model.loras]
        return {
            "files": model.hashes(),
            **({"loras": loras} if loras else {}),
            "precision": model.precision,
            "acceleration": self.worker.acceleration,
            "max_seconds": self.worker.max_seconds,
        }

    def check(self, request: WanRequest) -> Needs:
        """Return what the request takes; its work is the tokens that all forwards compute."""
        shots = self.require_possible(request)
        plans, speech = [shot.plan for shot in shots], request.task == "speech-to-video"
        return Needs(
            work=float(sum(plan.forwards * tokens_of(plan.latent_shape) for plan in plans)),
            seconds=self._seconds(plans),
            memory_bytes=None if speech else max(self._needed(shot, self.worker.memory) for shot in shots),
            least_bytes=None if speech else self._least(shots),
            findings=tuple(finding for shot in shots for finding in shot.report.told),
        )

    def require_possible(self, request: WanRequest) -> Sequence[Checked]:
        """Return the checked shots. Raises as `check`, whose estimates take most of its time."""
        if is_film(request):
            return check_shots(request, self.worker)
        return [self.worker.check(request, self.media, self.find)]

    def _seconds(self, plans: Sequence[Plan]) -> float | None:
        model = self.worker.model
        if self.rates is None or not isinstance(model, WanModel):
            return None
        work = stored_work(model, self.worker.memory.device)
        if unmeasured(self.rates, work):
            return None
        rates = rates_of_work(self.rates, work)
        return expect_all(plans, size_of(model.experts["high"].config), rates).total_s

    def _least(self, shots: Sequence[Checked]) -> int | None:
        """Return what a GPU like this one needs at least. None where this machine has none."""
        if self.memory_bytes is None:
            return None
        unknown = _UnknownSize(str(self.worker.memory.device))
        return max(self._needed(shot, unknown) for shot in shots)

    def _needed(self, shot: Checked, memory: Memory) -> int:
        """Return the bytes that the largest network needs at once."""
        if not isinstance(shot.model, WanModel):
            return 0
        used = shot.plan.networks[shot.plan.start_step :]
        return estimate_memory(shot.model, memory, shot.plan.forward_shape, used).largest.needed_bytes

    def make(self, task: Task) -> MadeFile:
        worker = replace(self.worker, progress=_Beating(self.worker.progress, task))
        if task.smaller and isinstance(worker.model, WanModel):
            worker = replace(worker, model=replace(worker.model, residency=_SMALLEST))
        result = worker.run(
            task.request,
            lambda plan: task.folder / f"{task.name}{suffix_of(plan.output)}",
            self.media,
            find=self.find,
            **self.options,
        )
        return MadeFile(result.path, result.receipt[FRAMES_SHA256])

    def close(self) -> None:
        return


class _UnknownSize(DeviceMemory):
    """A device of unknown size, for which residency, tiles and chunks are the smallest."""

    def free_bytes(self) -> int | None:
        return None

    def total_bytes(self) -> int | None:
        return None


class _Beating:
    """The progress of a run that extends the lease of its row, and stops when the row is taken away."""

    def __init__(self, shown: Progress, task: Task) -> None:
        self._task, self.begin, self.advance, self._check = task, shown.begin, shown.advance, shown.check

    def check(self) -> None:
        self._task.beat()
        self._check()
