"""Carries out the rows of a batch in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..generate.local_worker import LocalWorker
from ..request.base import WanRequest
from ..video.frame_hash import FRAMES_SHA256
from ..video.output import suffix_of
from .batch_run import MadeFile

__all__ = ["LocalPlace"]


@dataclass(frozen=True)
class LocalPlace:
    """This machine, as a `Worker` of a batch."""

    worker: LocalWorker
    place: str = "local"

    def settings(self) -> dict[str, Any]:
        """Return what decides the results beside the requests."""
        model = self.worker.model
        return {
            "files": model.hashes(),
            "precision": model.precision,
            "acceleration": self.worker.acceleration,
            "max_seconds": self.worker.max_seconds,
        }

    def check(self, request: WanRequest) -> object:
        return self.worker.check(request)

    def make(self, request: WanRequest, folder: Path, name: str) -> MadeFile:
        result = self.worker.run(request, lambda plan: folder / f"{name}{suffix_of(plan.output)}")
        return MadeFile(result.path, result.receipt[FRAMES_SHA256])
