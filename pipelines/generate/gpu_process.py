"""A run on several devices as a process of its own, for ComfyUI, whose process has other work too.

`run_on_gpus` starts the process, which `gpu_job.py` describes from inside, and follows it.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RankError, RequestError
from ..parallel.device_names import require_devices
from ..progress import Progress
from ..request.base import WanRequest
from ..request.parse import parse
from ..request.report import Finding
from ..request.seeds import seed_for_run
from ..request.shots import is_film
from ..video.read_image import read_image
from .gpu_choice import layout_of_run
from .gpu_job import MARK, GpuJob
from .result import Result

if TYPE_CHECKING:
    from ..loading.wan_model import GpusOfModel
    from ..plan.plan import Plan
    from .local_worker import LocalWorker

__all__ = ["run_on_gpus"]

_SCRIPT = Path(__file__).resolve().parents[1] / "parallel" / "own_process.py"
_LOOK_S = 0.2
_VIDEO = "mp4"  # the output of a plan
_DIFFERENT = "ranks would skip different blocks"
_ALONE = "leave gpus of Load Model empty"
_END_S = 60.0  # two waits of 20 s in `run_ranks`, and some


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
        raise RequestError.of("acceleration", _DIFFERENT, fix)
    if request.local is not None and request.local.step_cache != "off":
        raise RequestError.of("local.step_cache", _DIFFERENT, f"leave it out, or {_ALONE}")
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
        if line.startswith(MARK):
            lines.put(line.removeprefix(MARK))
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


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
