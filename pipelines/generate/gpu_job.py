"""A run on several devices as a process of its own, for ComfyUI, whose process has other work too.

`run_on_gpus` starts the process and follows it: a line of JSON goes in, lines of JSON come out. Inside of it
`main` starts the ranks. When the parent closes its end, or is killed, the process ends with all ranks.
"""

from __future__ import annotations

import _thread
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RankError, RequestError, WanDuetError
from ..parallel.device_names import require_devices
from ..progress import Progress, Silent
from ..request.base import WanRequest
from ..request.parse import parse
from ..request.report import Finding, silent
from ..request.seeds import seed_for_run
from ..request.shots import is_film
from ..video.read_image import read_image
from .gpu_choice import layout_of_run
from .result import Result

if TYPE_CHECKING:
    from ..loading.wan_model import GpusOfModel, WanModel
    from ..parallel.rank_processes import RankPlace
    from ..plan.plan import Plan
    from .local_worker import LocalWorker

__all__ = ["GpuJob", "main", "run_on_gpus", "run_rank"]

_SCRIPT = Path(__file__).resolve().parents[1] / "parallel" / "own_process.py"
_MARK = "wan-duet:"  # other lines on stdout are what packages print
_LOOK_S = 0.2
_VIDEO = "mp4"  # the output of a plan
_ALONE = "leave gpus of Load Model empty"
_END_S = 60.0  # two waits of 20 s in `run_ranks`, and some


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


def run_on_gpus(
    worker: LocalWorker,
    request: WanRequest,
    out: Callable[[Plan], Path],
    *,
    gpus: GpusOfModel,
    tags: Mapping[str, str] | None = None,
    found: Sequence[Finding] = (),
    return_images: bool = False,
    embed_receipt: bool = True,
) -> Result:
    """Run a request, whose files are paths, on several devices, and return its result.

    gpus: of the model. The other arguments are those of `LocalWorker.run`. Previews are not shown.

    Raises RequestError for what several devices cannot do, RankError if a rank fails or ends, and what
    `progress.check` raises; then no partial file remains.
    """
    model = worker.model
    require_devices(gpus.devices)
    _require_several(worker, request)
    request = parse(request.kind, {**request.document(), "seed": seed_for_run(request, "local")})
    ready = worker.check(request)  # raises before anything is loaded; LoRAs are downloaded once
    layout_of_run(ready.model, ready.plan, len(gpus.devices))
    if return_images and ready.plan.output == _VIDEO:
        fix = f"connect video, or {_ALONE}"
        raise RequestError.of("return_images", "the frames are in another process", fix)
    sources = worker.lora_sources
    job = GpuJob(
        devices=gpus.devices,
        kind=request.kind,
        request=request.document(),
        out=str(out(ready.plan)),
        model=gpus.arguments,
        loras=[(str(one.file), one.strength, one.expert) for one in model.loras],
        helpers={name: _text(getattr(model, name)) for name in ("prompt_expander", "safety_checker")},
        lora_folders=None if sources.folders is None else [str(folder) for folder in sources.folders],
        downloads=None if sources.downloads is None else str(sources.downloads.folder),
        interpolators={name: str(file) for name, file in worker.interpolators.files.items()},
        tags=dict(tags or {}),
        found=[one.as_dict() for one in found],
        embed_receipt=embed_receipt,
        allow_partial_loras=worker.allow_partial_loras,
        pose_video=_text(worker.pose_video),
        max_seconds=worker.max_seconds,
    )
    _make_room(worker)
    said = _followed(job, worker)
    path = Path(said["path"])
    images = None if ready.plan.output == _VIDEO else read_image(path)[None]
    return Result(path, said["seed"], said["prompt"], said["receipt"], images)


def _require_several(worker: LocalWorker, request: WanRequest) -> None:
    """Raise RequestError for what only one device can do."""
    if is_film(request):
        raise RequestError.of("gpus", "given for shots, which several devices cannot do yet", _ALONE)
    if worker.acceleration != "exact":
        fix = f"choose exact, or {_ALONE}"
        raise RequestError.of("acceleration", "ranks would skip different blocks", fix)
    if worker.interpolators.loaded:
        fix = f"use a file in models/frame_interpolation, or {_ALONE}"
        raise RequestError.of("interp_model", "it is loaded in ComfyUI's own process", fix)


def _make_room(worker: LocalWorker) -> None:
    """Let the host free its device for the ranks."""
    total = worker.memory.total_bytes()
    if worker.memory.device.type != "cpu" and total is not None:
        worker.memory.reserve(total, "room for the ranks")
        worker.memory.release()


def _followed(job: GpuJob, worker: LocalWorker) -> dict[str, Any]:
    """Start the process, show what it says, and return the result that it tells."""
    process = subprocess.Popen(  # noqa: S603 - our own Python
        [sys.executable, str(_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",  # packages may print anything
    )
    assert process.stdin is not None  # noqa: S101 - a pipe
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    try:
        process.stdin.write(json.dumps(asdict(job)) + "\n")
        process.stdin.flush()
        while (line := _next(lines, worker.progress)) is not None:
            said = json.loads(line)
            if "result" in said:
                return dict(said["result"])
            if "error" in said:
                raise RankError(said["error"])
            _show(said, worker)
        raise RankError(f"the process of the devices ended with exit code {process.wait()}")
    finally:
        _end(process)


def _show(said: Mapping[str, Any], worker: LocalWorker) -> None:
    if "begin" in said:
        worker.progress.begin(*said["begin"])
    elif "advance" in said:
        worker.progress.advance(said["advance"])
    elif "findings" in said:
        worker.tell([Finding(**one) for one in said["findings"]])


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None  # noqa: S101 - a pipe
    for line in process.stdout:
        if line.startswith(_MARK):
            lines.put(line.removeprefix(_MARK))
        else:
            sys.stderr.write(line)
    lines.put(None)


def _next(lines: queue.SimpleQueue[str | None], progress: Progress) -> str | None:
    """Return the next line, or None at the end. Raises what `progress.check` raises."""
    while True:
        progress.check()
        with suppress(queue.Empty):
            return lines.get(timeout=_LOOK_S)


def _end(process: subprocess.Popen[str]) -> None:
    """Close the pipe, which ends the process, and wait until rank 0 has removed its unfinished files."""
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# ---- inside of the process


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
    from ..interpolation.interpolator_files import Interpolators
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
    sys.stdout.write(f"{_MARK}{json.dumps(message)}\n")
    sys.stdout.flush()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
