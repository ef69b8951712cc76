"""Runs a request on this machine: check, plan, encode text, sample, decode, interpolate, write, receipt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ..device.memory import Memory
from ..embedded.toy_model import embedded_loras
from ..interpolation.found_interpolators import Interpolators
from ..loading.host_model import AnyModel
from ..parallel.gpu_world import GpuWorld
from ..plan.plan import Plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.report import Finding, Tell, silent
from ..video.local_file import FindFile, any_file
from ..weights.lora.find import LoraSources
from .checked_run import Acceleration, checked
from .decided_run import decide
from .executed_run import execute
from .kept_latents import KeptLatents
from .prepared_run import Run
from .result import Result, StageTimer
from .sampled_latents import sample_latents
from .shared_decoding import help_decoding
from .speech_run import SPEECH, help_speech, make_speech

__all__ = ["run", "take_part"]


def run(
    request: WanRequest,
    model: AnyModel,
    *,
    out: Path | Callable[[Plan], Path],
    memory: Memory,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    find: FindFile = any_file,
    found: Sequence[Finding] = (),
    tags: Mapping[str, str] | None = None,
    lora_sources: LoraSources | None = None,
    return_images: bool = False,
    embed_receipt: bool = True,
    acceleration: Acceleration = "exact",
    check_memory: bool = True,
    interpolators: Interpolators | None = None,
    allow_partial_loras: bool = False,
    pose_video: Path | None = None,
    max_seconds: float | None = None,
    kept: KeptLatents | None = None,
    world: GpuWorld | None = None,
    tell: Tell = silent,
) -> Result:
    """Generate the video or image of `request`, and write it to `out` with its receipt beside it.

    out:           a .mp4, .mov, .png or .jpg file, or a function that returns it for a plan.
    media:         {field: the file that was written for a connected input}.
    find:          returns the file for a name in a media field.
    found:         what was found in the inputs before; joins the findings of the check.
    tags:          more metadata to write into the file, for example ComfyUI's prompt and workflow.
    lora_sources:  where LoRAs are looked up, those of turbo included. None uses local files and the embedded
                   LoRAs.
    acceleration:  "exact" computes every step. "as requested" follows the request and may use a step cache.
    embed_receipt: write the receipt, and with it the prompt, into the file too.
    check_memory:  raise ModelError before anything is loaded if the run does not fit into memory.
    interpolators: the FILM and RIFE files from `find_interpolators`. None allows only optical flow.
    allow_partial_loras: also apply LoRAs of which only a part fits the model.
    pose_video, max_seconds: for speech-to-video only, as for `make_speech`.
    kept:          where finished latents are kept. A run that differs from an earlier one only in what
                   follows sampling decodes and encodes those again. None always samples.
    world:         this is rank 0 of it, and every other rank runs `take_part` for the request. None for one
                   device.
    tell:          says findings to the user: all that are known before anything is loaded, then what only
                   the run could find.

    Raises RequestError before anything is loaded when the request cannot run, ModelError, SamplingError or
    MediaError when a stage fails, and whatever `progress.check` raises when the user stops the run. Then no
    partial file remains.
    """
    available = interpolators or Interpolators()
    ready = checked(
        request,
        model,
        interpolators=available,
        lora_sources=lora_sources or LoraSources(embedded=embedded_loras()),
        progress=progress,
        media=media,
        find=find,
        found=found,
        acceleration=acceleration,
        allow_partial_loras=allow_partial_loras,
        pose_video=pose_video,
        max_seconds=max_seconds,
    )
    decided = decide(
        request,
        ready,
        memory,
        progress,
        out if isinstance(out, Path) else out(ready.plan),
        interpolators=available,
        tags=dict(tags or {}),
        embed_receipt=embed_receipt,
        return_images=return_images,
        check_memory=check_memory,
        kept=kept,
        world=world,
        tell=tell,
    )
    return make_speech(decided, pose_video) if request.task == SPEECH else execute(decided)


def take_part(run: Run, pose_video: Path | None = None) -> None:
    """Sample and decode as a rank other than 0: compute its part, and write nothing."""
    if run.request.task == SPEECH:
        help_speech(run, pose_video)
    else:
        help_decoding(run, sample_latents(run, StageTimer()).latents)
