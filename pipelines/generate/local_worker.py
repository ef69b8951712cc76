"""Runs one request after another on this machine with one model, which stays loaded between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..device.memory import Memory
from ..interpolation.found_interpolators import Interpolators
from ..loading.host_model import AnyModel
from ..parallel.gpu_world import GpuWorld
from ..plan.plan import Plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.report import Tell, silent
from ..request.shots import is_film
from ..video.local_file import FindFile, any_file
from ..weights.lora.find import LoraSources
from .checked_run import Acceleration, Checked, checked
from .decided_run import decide
from .film_run import check_shots, run_film
from .kept_latents import KeptLatents
from .local_run import run, take_part
from .result import Result

__all__ = ["LocalWorker"]


@dataclass(frozen=True)
class LocalWorker:
    """What all runs of a process have in common. The fields are arguments of `local_run.run`.

    memory: one whose `keeps` is on holds the experts for the next run.
    image_model: for shots that begin with an image, if `model` cannot do them.
    world: the ranks that compute together, if there are several devices. They cannot do shots.
    """

    model: AnyModel
    memory: Memory
    progress: Progress
    tell: Tell
    lora_sources: LoraSources
    interpolators: Interpolators
    acceleration: Acceleration = "exact"
    check_memory: bool = True
    allow_partial_loras: bool = False
    pose_video: Path | None = None
    max_seconds: float | None = None
    image_model: AnyModel | None = None
    world: GpuWorld | None = None

    def check(
        self,
        request: WanRequest,
        media: Mapping[str, Path] = MappingProxyType({}),
        find: FindFile = any_file,
    ) -> Checked:
        """Do all that `run` does before it loads weights, except for its estimate of the memory.

        Of several shots this returns the first.
        """
        if is_film(request):
            return check_shots(request, self)[0]
        return checked(
            request,
            self.model,
            interpolators=self.interpolators,
            lora_sources=self.lora_sources,
            progress=self.progress,
            media=media,
            find=find,
            acceleration=self.acceleration,
            allow_partial_loras=self.allow_partial_loras,
            pose_video=self.pose_video,
            max_seconds=self.max_seconds,
        )

    def run(
        self,
        request: WanRequest,
        out: Path | Callable[[Plan], Path],
        media: Mapping[str, Path] = MappingProxyType({}),
        *,
        kept: KeptLatents | None = None,
        **options: Any,
    ) -> Result:
        """Write the result of the request to `out`, with its receipt beside it.

        out, media, kept: as for `local_run.run`, which says what is raised. A video of shots keeps its own.
        options: `find`, `tags`, `return_images` and `embed_receipt` of `local_run.run`, and `expected` of
                 `run_film`.
        """
        if is_film(request):
            return run_film(request, self, out, media=media, **options)
        return run(
            request,
            self.model,
            out=out,
            memory=self.memory,
            progress=self.progress,
            tell=self.tell,
            media=media,
            lora_sources=self.lora_sources,
            interpolators=self.interpolators,
            acceleration=self.acceleration,
            check_memory=self.check_memory,
            allow_partial_loras=self.allow_partial_loras,
            pose_video=self.pose_video,
            max_seconds=self.max_seconds,
            kept=kept,
            world=self.world,
            **options,
        )

    def take_part(self, request: WanRequest) -> None:
        """Compute the part of a rank other than 0 in `run` of rank 0. Writes nothing."""
        ready = self.check(request)
        decided = decide(
            request,
            ready,
            self.memory,
            self.progress,
            Path(f"rank.{ready.plan.output}"),
            world=self.world,
            interpolators=self.interpolators,
            check_memory=self.check_memory,
            tell=silent,
        )
        take_part(decided, self.pose_video)
