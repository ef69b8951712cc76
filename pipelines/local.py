"""Runs a request on this machine: check, plan, text, sampling, decode -> interpolate -> encode, receipt."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .errors import ModelError, RequestError, SamplingError
from .lora_chain import with_loras
from .media.edit import Edit
from .media.interpolate import Interpolator
from .media.interpolator_files import Found, interpolator_record, make_interpolator
from .media.tags import RECEIPT
from .media.tiles import Tiling
from .memory import Memory, compute_dtype
from .models.wan_model import WanModel
from .output import output_place, write_sidecar
from .plan.plan import Plan, describe, make_plan
from .preflight import look_ahead
from .progress import Progress
from .receipt import Recorded, differences, latents_hash, make_receipt, require_same_files
from .render import Rendered, render, tiling_note
from .request.base import WanRequest
from .request.case import LocalAbilities
from .request.check import check
from .request.kinds import seed_of
from .request.report import Report
from .sampling.engine import Condition, Prompts
from .sampling.noise import draw_noise
from .sampling.schedule import Schedule
from .stages import encode_prompts, float_choices, sample
from .toy.embedded import embedded_loras
from .weights.lora_source import LoraSources

__all__ = ["Acceleration", "Result", "local_abilities", "repeat", "run"]

log = logging.getLogger(__name__)

Acceleration = Literal["exact", "as requested"]
_DRAWN_SEEDS = 2**53  # every JSON reader keeps these exact


@dataclass(frozen=True)
class Result:
    """A finished run. `images` is (frames, H, W, 3) float32 in [0, 1] when they were asked for, else None."""

    path: Path
    seed: int
    prompt: str
    receipt: Mapping[str, Any]
    images: Tensor | None = None


@dataclass(frozen=True)
class _Job:
    """Everything that is decided before anything is loaded."""

    request: WanRequest
    report: Report
    plan: Plan
    model: WanModel
    out: Path
    tags: Mapping[str, str]
    embed_receipt: bool = True
    interpolators: Found = field(default_factory=Found)


@dataclass
class _Clock:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


def run(
    request: WanRequest,
    model: WanModel,
    *,
    out: Path,
    memory: Memory,
    progress: Progress,
    tags: Mapping[str, str] | None = None,
    lora_sources: LoraSources | None = None,
    return_images: bool = False,
    embed_receipt: bool = True,
    acceleration: Acceleration = "exact",
    check_memory: bool = True,
    interpolators: Found | None = None,
) -> Result:
    """Make the video of `request` in `out` (an .mp4) and its receipt beside it.

    tags:         metadata to write into the file beside the receipt, for example ComfyUI's prompt and
                  workflow.
    lora_sources: what LoRA paths may mean; None knows any local file and the embedded LoRAs.
    acceleration: "exact" computes every step whatever the request prefers; "as requested" does what its
                  `acceleration` says, or refuses.
    embed_receipt: whether the file itself carries the receipt too, and with it the prompt.
    check_memory: refuse, before anything is loaded, what cannot fit into memory.
    interpolators: the film and rife there are, as `find_interpolators` finds them; None knows only flow.

    Raises RequestError before anything is loaded when the request cannot be honoured, ModelError,
    SamplingError or MediaError when a stage fails, and what `progress.check` raises when the user stops: then
    nothing is left behind.
    """
    if acceleration == "as requested" and getattr(request, "acceleration", "none") != "none":
        raise RequestError.of(
            "acceleration",
            "regular, to be done as requested, but this version computes every step",
            "choose exact at the runner, or none in the request",
        )
    found = interpolators or Found()
    report = check(request, family=model.family, abilities=local_abilities(found))
    seed = seed_of(request)
    if seed is None:
        seed = secrets.randbelow(_DRAWN_SEEDS)
    plan = make_plan(request, model.family, seed, boundary=model.boundary, report=report)
    model = _with_loras(request, model, lora_sources, progress)
    job = _Job(request, report, plan, model, out, dict(tags or {}), embed_receipt, found)
    return _execute(job, memory, progress, return_images=return_images, check_memory=check_memory)


def repeat(
    recorded: Recorded,
    model: WanModel,
    *,
    out: Path,
    memory: Memory,
    progress: Progress,
    lora_sources: LoraSources | None = None,
    interpolators: Found | None = None,
    check_memory: bool = True,
) -> Result:
    """Make the video of a receipt again. check_memory: as for `run`.

    Raises ModelError when the weight files are not the recorded ones, and SamplingError when the latents came
    out different, naming what differs between the two machines.
    """
    model = _with_loras(recorded.request, model, lora_sources, progress)
    require_same_files(recorded, model)
    model = replace(model, wishes=recorded.wishes)
    found = interpolators or Found()
    _require_interpolator(recorded.plan, found)
    report = check(recorded.request, family=model.family, abilities=local_abilities(found))
    job = _Job(recorded.request, report, recorded.plan, model, out, {}, interpolators=found)
    return _execute(job, memory, progress, check_memory=check_memory, expected=recorded)


def _with_loras(
    request: WanRequest, model: WanModel, sources: LoraSources | None, progress: Progress
) -> WanModel:
    loras = getattr(request, "loras", None) or ()
    return with_loras(model, loras, sources or LoraSources(embedded=embedded_loras()), progress)


def _execute(
    job: _Job,
    memory: Memory,
    progress: Progress,
    *,
    return_images: bool = False,
    check_memory: bool = True,
    expected: Recorded | None = None,
) -> Result:
    plan, out, clock = job.plan, job.out, _Clock()
    log.info("%s", describe(plan))
    ahead = look_ahead(job.model, memory, plan.latent_shape, plan.experts[plan.start_step :])
    log.info("%s", ahead.text())
    if check_memory:
        ahead.require_room()
    with output_place(out):
        with clock.stage("text"):
            prompts, notes = _read_prompts(job, memory, progress)
        with clock.stage("sampling"):
            latents = _sample(job, prompts, memory, progress, check_memory=check_memory)
        fingerprint = latents_hash(latents)
        if expected is not None and fingerprint != expected.latents_sha256:
            raise SamplingError(f"the latents are not those of the receipt; {differences(expected)}")
        receipt = make_receipt(
            job.request,
            job.report,
            plan,
            job.model,
            notes,
            dtype=str(compute_dtype(job.model.precision, memory.device)).removeprefix("torch."),
            device=str(memory.device),
            latents_sha256=fingerprint,
            memory=ahead.as_dict(),
            choices=float_choices(job.model, memory.device),
        )
        if plan.num_interpolated_frames:
            receipt["interpolator"] = interpolator_record(plan.interpolator, job.interpolators, memory)
        with clock.stage("video"):

            def tags(tiling: Tiling | None) -> dict[str, str]:
                if not job.embed_receipt:
                    return dict(job.tags)
                known = {**receipt, "decoded": tiling_note(tiling), "timings_s": clock.seconds}
                return {**job.tags, RECEIPT: json.dumps(known)}

            video = _render(job, latents, tags, memory, progress, keep_frames=return_images)
        receipt["decoded"] = tiling_note(video.tiling)
        receipt["timings_s"] = clock.seconds
        write_sidecar(out, receipt)
    images = torch.from_numpy(np.stack(video.frames)).float() / 255 if return_images else None
    return Result(out, plan.seed, dict(job.request)["prompt"], receipt, images)


def _sample(job: _Job, prompts: Prompts, memory: Memory, progress: Progress, *, check_memory: bool) -> Tensor:
    shape = (1, *job.plan.latent_shape)
    return sample(
        job.model,
        Schedule.of_plan(job.plan),
        job.plan.solver,
        torch.zeros(shape),
        draw_noise(shape, job.plan.seed),
        prompts,
        job.plan.guidance,
        memory,
        progress,
        check_memory=check_memory,
    )


def _render(
    job: _Job,
    latents: Tensor,
    tags: Callable[[Tiling | None], Mapping[str, str]],
    memory: Memory,
    progress: Progress,
    *,
    keep_frames: bool,
) -> Rendered:
    plan = job.plan
    edit = Edit(
        Fraction(plan.fps),
        plan.reverse,
        plan.interpolator,
        plan.num_interpolated_frames,
        plan.fps_out != plan.fps,
        plan.video_quality,
        plan.video_write_mode,
    )
    return render(
        job.model,
        latents,
        job.out,
        edit,
        memory,
        progress,
        frames=plan.frames_delivered,
        interpolator=_interpolator(plan, job.interpolators, memory),
        tags=tags,
        keep_frames=keep_frames,
    )


def local_abilities(found: Found) -> LocalAbilities:
    """What a check needs to know of the interpolators that were found."""
    return LocalAbilities(interpolators=found.names, unusable_interpolators=found.refused)


def _require_interpolator(plan: Plan, found: Found) -> None:
    if plan.interpolator not in ("none", *found.names):
        raise ModelError(
            f"interpolator_model: the receipt says {plan.interpolator}, and no file for it was found; "
            "give the folder that has one"
        )


def _interpolator(plan: Plan, found: Found, memory: Memory) -> Interpolator | None:
    if not plan.num_interpolated_frames:
        return None
    return make_interpolator(plan.interpolator, found, memory, width=plan.width, height=plan.height)


def _read_prompts(job: _Job, memory: Memory, progress: Progress) -> tuple[Prompts, dict[str, str]]:
    """The prompts as conditions, and a note per prompt that was too long to be read whole."""
    fields = dict(job.request)
    guided = any(job.plan.guidance[expert] != 1 for expert in job.plan.experts[job.plan.start_step :])
    names = ["prompt", "negative_prompt"] if guided else ["prompt"]
    encoded = encode_prompts(job.model, [fields[name] for name in names], memory, progress)
    notes = {
        name: f"only its first {prompt.tokens} tokens are read; the last {prompt.dropped} do not fit"
        for name, prompt in zip(names, encoded, strict=True)
        if prompt.dropped
    }
    conditions = [Condition(prompt.embeddings) for prompt in encoded]
    return Prompts(conditions[0], conditions[1] if guided else None), notes
