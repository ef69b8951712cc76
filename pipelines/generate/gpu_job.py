"""What a process of several devices does inside: it reads a job, starts the ranks, and says what they say.

A line of JSON comes in, lines of JSON go out (`gpu_process.py` writes and reads them). When the parent closes
its end, or is killed, the process ends with all ranks.
"""

from __future__ import annotations

import _thread
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WanDuetError
from ..progress import Silent
from ..request.parse import parse
from ..request.report import Finding, silent

if TYPE_CHECKING:
    from ..loading.wan_model import WanModel
    from ..parallel.rank_processes import RankPlace
    from .local_worker import LocalWorker

__all__ = ["MARK", "GpuJob", "main", "run_rank"]

MARK = "wan-duet:"  # begins a line; others on stdout are what packages print


@dataclass(frozen=True)
class GpuJob:
    """All that the process must know, as JSON values. Paths are absolute.

    model:     arguments of `load_model`. loras: file, strength and expert of each on the model.
    helpers:   folders of prompt expander and safety checker.
    lora_folders, downloads: where LoRAs of the request are. None: any file, nothing downloaded.
    """

    devices: Sequence[str]
    kind: str
    request: Mapping[str, Any]
    out: str
    model: Mapping[str, Any]
    loras: Sequence[tuple[str, float, str]]
    helpers: Mapping[str, str | None]
    lora_folders: Sequence[str] | None
    downloads: str | None
    interpolators: Mapping[str, str]
    tags: Mapping[str, str]
    found: Sequence[Mapping[str, Any]]
    embed_receipt: bool
    allow_partial_loras: bool
    pose_video: str | None
    max_seconds: float | None


def main() -> int:
    """Read a job from stdin, run it on its devices, and say the result or the error."""
    from ..parallel.rank_processes import run_ranks

    job = GpuJob(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        _say(result=run_ranks(run_rank, (job,), job.devices))
    except KeyboardInterrupt:
        return 130
    except WanDuetError as error:
        _say(error=str(error))
        return 1
    return 0


def _stop_with_parent() -> None:
    sys.stdin.read()
    _thread.interrupt_main()


def run_rank(place: RankPlace, job: GpuJob) -> dict[str, Any] | None:
    """Run the job as one rank. Only rank 0 shows progress, writes and answers."""
    from ..parallel.gpu_world import join_world, share_cores

    share_cores(place.devices)
    world = join_world(place.rank, place.devices, place.store)
    worker = replace(_worker(job, world.device), world=world)
    request = parse(job.kind, job.request)
    if world.rank:
        worker.take_part(request)
        answer = None
    else:
        worker = replace(worker, progress=_ToldProgress(), tell=_tell)
        found = [Finding(**one) for one in job.found]
        made = worker.run(request, Path(job.out), tags=job.tags, found=found, embed_receipt=job.embed_receipt)
        answer = {
            "path": str(made.path),
            "seed": made.seed,
            "prompt": made.prompt,
            "receipt": dict(made.receipt),
        }
    world.close()
    return answer


def _worker(job: GpuJob, device: str) -> LocalWorker:
    """Return what runs the job in this rank, which shows nothing."""
    from ..device.memory import DeviceMemory
    from ..download.downloads import Downloads
    from ..embedded.toy_model import embedded_loras
    from ..interpolation.found_interpolators import Interpolators
    from ..weights.lora.find import LoraSources
    from .local_worker import LocalWorker

    folders = None if job.lora_folders is None else [Path(folder) for folder in job.lora_folders]
    downloads = None if job.downloads is None else Downloads.into(Path(job.downloads))
    return LocalWorker(
        _model(job),
        DeviceMemory(device, sharers=list(job.devices).count(device)),
        Silent(),
        silent,
        LoraSources(folders, embedded_loras(), downloads),
        Interpolators({name: Path(file) for name, file in job.interpolators.items()}),
        allow_partial_loras=job.allow_partial_loras,
        pose_video=None if job.pose_video is None else Path(job.pose_video),
        max_seconds=job.max_seconds,
    )


def _model(job: GpuJob) -> WanModel:
    from ..kernels.choices import Preferences
    from ..loading.wan_model import load_model

    arguments = {**job.model, "preferences": Preferences(**job.model["preferences"])}
    model = load_model(**arguments)
    for file, strength, expert in job.loras:  # the host has already decided that they fit
        model = model.with_lora(Path(file), strength, expert, allow_partial=True)
    helpers = {name: Path(folder) for name, folder in job.helpers.items() if folder is not None}
    return replace(model, **helpers)  # type: ignore[arg-type]


class _ToldProgress(Silent):
    """Says its calls on stdout. `run_ranks` ends the rank when the user stops the run."""

    def begin(self, stage: str, total: int, unit: str) -> None:
        _say(begin=[stage, total, unit])

    def advance(self, done: int, preview: object = None) -> None:
        del preview
        _say(advance=done)


def _tell(findings: Sequence[Finding]) -> None:
    _say(findings=[one.as_dict() for one in findings])


def _say(**message: Any) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(message)}\n")
    sys.stdout.flush()
