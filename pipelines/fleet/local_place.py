"""Carries out the rows of a batch in this process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..generate.film_run import check_shots
from ..generate.local_worker import LocalWorker
from ..loading.wan_model import WanModel
from ..plan.flops import tokens_of
from ..request.base import WanRequest
from ..request.shots import is_film
from ..video.frame_hash import FRAMES_SHA256
from ..video.output import suffix_of
from .worker import MadeFile, Task

__all__ = ["LocalPlace"]

_SMALLEST = "ring"  # residency: three blocks at a time


@dataclass(frozen=True)
class LocalPlace:
    """This machine, as a `Worker` of a batch."""

    worker: LocalWorker
    place: str = "local"
    name: str = "local"
    lease_s: float | None = None

    def settings(self) -> dict[str, Any]:
        """Return what decides the results beside the requests."""
        model = self.worker.model
        return {
            "files": model.hashes(),
            "precision": model.precision,
            "acceleration": self.worker.acceleration,
            "max_seconds": self.worker.max_seconds,
        }

    def check(self, request: WanRequest) -> float:
        """Return the tokens that all forwards of the request compute."""
        shots = check_shots(request, self.worker) if is_film(request) else [self.worker.check(request)]
        return float(sum(shot.plan.forwards * tokens_of(shot.plan.latent_shape) for shot in shots))

    def make(self, task: Task) -> MadeFile:
        worker = self.worker
        if task.smaller and isinstance(worker.model, WanModel):
            worker = replace(worker, model=replace(worker.model, residency=_SMALLEST))
        result = worker.run(task.request, lambda plan: task.folder / f"{task.name}{suffix_of(plan.output)}")
        return MadeFile(result.path, result.receipt[FRAMES_SHA256])

    def close(self) -> None:
        return
