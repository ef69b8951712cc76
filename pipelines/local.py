"""Runs a request on this machine: check, plan, text, sampling, decode -> interpolate -> encode, receipt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .beginning import starting_latents
from .distilled import lacking, with_lightning
from .errors import ModelError, RequestError, SamplingError
from .given import Given, look_at_media
from .lora_chain import with_loras
from .media.edit import Edit
from .media.interpolate import Interpolator
from .media.interpolator_files import Found, interpolator_record, make_interpolator
from .media.local_file import FindFile, any_file
from .media.tags import RECEIPT
from .media.tiles import Tiling
from .memory import Memory, compute_dtype
from .models.conditions import Pictures
from .models.wan_model import WanModel
from .output import output_place, require_suffix, write_sidecar
from .pictures import pictures_of
from .plan.plan import Plan, describe, make_plan
from .preflight import look_ahead
from .progress import Progress
from .prompt import drawn_prompt, helpers_record, read_prompts
from .receipt import Recorded, differences, latents_hash, make_receipt, require_same_files
from .render import Look, Rendered, render, render_picture, tiling_note
from .request.base import WanRequest
from .request.case import LocalAbilities
from .request.check import check
from .request.report import Report
from .request.seeds import seed_for_run
from .result import Clock, Result
from .safety import chosen_checker, look_at_result
from .sampling.engine import Prompts
from .sampling.noise import draw_noise, later_noise
from .sampling.schedule import Schedule
from .sampling.step_cache import REGULAR, StepCache
from .speech import SPEECH, make_speech
from .stages import float_choices, sample
from .toy.embedded import embedded_loras
from .weights.lora_source import LoraSources

__all__ = ["Acceleration", "Result", "local_abilities", "repeat", "run"]

log = logging.getLogger(__name__)

Acceleration = Literal["exact", "as requested"]


@dataclass(frozen=True)
class _Job:
    """Everything that is decided before anything is loaded."""

    request: WanRequest
    report: Report
    plan: Plan
    model: WanModel
    given: Given
    out: Path
    tags: Mapping[str, str]
    embed_receipt: bool = True
    interpolators: Found = field(default_factory=Found)
    cache_threshold: float | None = None  # None computes every step
    prompt: str | None = None  # as a receipt has it, already expanded


def run(
    request: WanRequest,
    model: WanModel,
    *,
    out: Path | Callable[[Plan], Path],
    memory: Memory,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    find: FindFile = any_file,
    tags: Mapping[str, str] | None = None,
    lora_sources: LoraSources | None = None,
    return_images: bool = False,
    embed_receipt: bool = True,
    acceleration: Acceleration = "exact",
    check_memory: bool = True,
    interpolators: Found | None = None,
    allow_partial_loras: bool = False,
    pose_video: Path | None = None,
    max_seconds: float | None = None,
) -> Result:
    """Make the video or picture of `request` in `out` (.mp4, .png or .jpg) and its receipt beside it.

    out:          may follow from the plan, which knows size and kind of the result.
    media:        {field: the file written for the medium that was connected to it}.
    find:         the file that a name in a field of a medium means.
    tags:         metadata to write into the file beside the receipt, for example ComfyUI's prompt and
                  workflow.
    lora_sources: what LoRA paths may mean, and where those of turbo lie; None knows any local file and the
                  embedded LoRAs.
    acceleration: "exact" computes every step whatever the request prefers; "as requested" does what its
                  `acceleration` says, by a step cache.
    embed_receipt: whether the file itself carries the receipt too, and with it the prompt.
    check_memory: refuse, before anything is loaded, what cannot fit into memory.
    interpolators: the film and rife there are, as `find_interpolators` finds them; None knows only flow.
    allow_partial_loras: also apply LoRAs of which only a part fits the model.
    pose_video, max_seconds: of a speech-to-video request, as for `make_speech`; no other has a use for them.

    Raises RequestError before anything is loaded when the request cannot be honoured, ModelError,
    SamplingError or MediaError when a stage fails, and what `progress.check` raises when the user stops: then
    nothing is left behind.
    """
    found = interpolators or Found()
    given = look_at_media(request, media, find)
    model = with_lightning(model, request.task, _sources(lora_sources))
    abilities = replace(local_abilities(found, model), step_cache=acceleration == "as requested")
    report = check(request, family=model.family, abilities=abilities, media=given.facts)
    resolved = report.require()
    if request.task != SPEECH:
        for name, value in (("pose_video", pose_video), ("max_seconds", max_seconds)):
            if value is not None:
                fix = f"leave it out; only {SPEECH} takes it"
                raise RequestError.of(name, f"given for {request.task}", fix)
    seed = seed_for_run(request, "local")
    plan = make_plan(resolved, model.family, seed, boundary=model.boundary, max_seconds=max_seconds)
    if request.task == SPEECH:
        return make_speech(
            request, report, model, plan, given, out=out, memory=memory, progress=progress, tags=tags or {},
            return_images=return_images, embed_receipt=embed_receipt, check_memory=check_memory,
            pose_video=pose_video,
        )  # fmt: skip
    model = _with_loras(request, model, lora_sources, progress, allow_partial=allow_partial_loras)
    out = out if isinstance(out, Path) else out(plan)
    cache = REGULAR if resolved.values.get("acceleration") == "regular" else None
    job = _Job(request, report, plan, model, given, out, dict(tags or {}), embed_receipt, found, cache)
    return _execute(job, memory, progress, return_images=return_images, check_memory=check_memory)


def repeat(
    recorded: Recorded,
    model: WanModel,
    *,
    out: Path,
    memory: Memory,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    lora_sources: LoraSources | None = None,
    interpolators: Found | None = None,
    check_memory: bool = True,
    pose_video: Path | None = None,
) -> Result:
    """Make the video or picture of a receipt again.

    media: {field: file} of the inputs; one that is left out is looked for by its name, in this folder.
    check_memory, pose_video: as for `run`.

    Raises ModelError when weight files or inputs are not the recorded ones, and SamplingError when the
    latents came out different, naming what differs between the two machines.
    """
    model = with_lightning(model, recorded.request.task, _sources(lora_sources))
    # What fitted then fits now: the files must be the same.
    model = _with_loras(recorded.request, model, lora_sources, progress, allow_partial=True)
    require_same_files(recorded, model)
    model = replace(model, wishes=recorded.wishes)
    found = interpolators or Found()
    _require_interpolator(recorded.plan, found)
    given = look_at_media(recorded.request, media)
    given.require(recorded.inputs)
    threshold = recorded.cache_threshold
    abilities = replace(local_abilities(found, model), step_cache=threshold is not None)
    report = check(recorded.request, family=model.family, abilities=abilities, media=given.facts)
    if recorded.request.task == SPEECH:
        return make_speech(
            recorded.request, report, model, recorded.plan, given, out=out, memory=memory,
            progress=progress, tags={}, check_memory=check_memory, pose_video=pose_video,
            expected=recorded,
        )  # fmt: skip
    job = _Job(
        recorded.request,
        report,
        recorded.plan,
        model,
        given,
        out,
        {},
        interpolators=found,
        cache_threshold=threshold,
        prompt=recorded.prompt,
    )
    return _execute(job, memory, progress, check_memory=check_memory, expected=recorded)


def _with_loras(
    request: WanRequest,
    model: WanModel,
    sources: LoraSources | None,
    progress: Progress,
    *,
    allow_partial: bool,
) -> WanModel:
    loras = getattr(request, "loras", None) or ()
    return with_loras(model, loras, _sources(sources), progress, allow_partial=allow_partial)


def _sources(sources: LoraSources | None) -> LoraSources:
    return sources or LoraSources(embedded=embedded_loras())


def _execute(
    job: _Job,
    memory: Memory,
    progress: Progress,
    *,
    return_images: bool = False,
    check_memory: bool = True,
    expected: Recorded | None = None,
) -> Result:
    plan, out, clock = job.plan, job.out, Clock()
    require_suffix(out, plan.output)
    log.info("%s", describe(plan))
    steps, cached = plan.experts[plan.start_step :], job.cache_threshold is not None
    ahead = look_ahead(job.model, memory, plan.latent_shape, steps, cached=cached)
    choices = float_choices(job.model, plan.latent_shape, memory)
    log.info("%s", ahead.text())
    if check_memory:
        ahead.require_room()
    checker = chosen_checker(job.request, job.model, job.given)
    with output_place(out):
        with clock.stage("prompt"):
            prompt = drawn_prompt(job.request, job.model, job.given, checker, job.prompt, memory, progress)
        with clock.stage("text"):
            prompts, notes = read_prompts(job.model, job.request, plan, prompt, memory, progress)
        with clock.stage("input"):
            latents = starting_latents(job.model, job.request, plan, job.given, memory, progress)
            pictures = pictures_of(job.model, plan, job.given, memory, progress)
        cache = None if job.cache_threshold is None else StepCache(job.cache_threshold)
        with clock.stage("sampling"):
            latents = _sample(
                job, latents, pictures, prompts, memory, progress, cache, check_memory=check_memory
            )
        fingerprint = latents_hash(latents)
        if expected is not None and fingerprint != expected.latents_sha256:
            raise SamplingError(f"the latents are not those of the receipt; {differences(expected)}")
        receipt = make_receipt(
            job.request,
            job.report,
            plan,
            job.model,
            job.given,
            notes,
            prompt=prompt,
            dtype=str(compute_dtype(job.model.precision, memory.device)).removeprefix("torch."),
            device=str(memory.device),
            latents_sha256=fingerprint,
            memory=ahead.as_dict(),
            choices=choices,
        )
        receipt.update(helpers_record(job.request, job.model, checker))
        if cache is not None:
            receipt["acceleration"] = cache.as_dict()
        if plan.num_interpolated_frames:
            receipt["interpolator"] = interpolator_record(plan.interpolator, job.interpolators, memory)
        with clock.stage("video"):

            def tags(tiling: Tiling | None) -> dict[str, str]:
                if not job.embed_receipt:
                    return dict(job.tags)
                known = {**receipt, "decoded": tiling_note(tiling), "timings_s": clock.seconds}
                return {**job.tags, RECEIPT: json.dumps(known)}

            look = look_at_result(checker, job.request)
            made = _render(job, latents, tags, memory, progress, look, keep_frames=return_images)
        receipt["decoded"] = tiling_note(made.tiling)
        receipt["timings_s"] = clock.seconds
        write_sidecar(out, receipt)
    images = torch.from_numpy(np.stack(made.frames)).float() / 255 if made.frames else None
    return Result(out, plan.seed, prompt, receipt, images)


def _sample(
    job: _Job,
    latents: Tensor,
    pictures: Pictures,
    prompts: Prompts,
    memory: Memory,
    progress: Progress,
    cache: StepCache | None,
    *,
    check_memory: bool,
) -> Tensor:
    return sample(
        job.model,
        Schedule.of_plan(job.plan),
        job.plan.solver,
        pictures.start(latents),
        draw_noise(latents.shape, job.plan.seed),
        pictures.beside(prompts, job.model.vae),
        job.plan.guidance,
        memory,
        progress,
        check_memory=check_memory,
        cache=cache,
        given=pictures.frames,
        draw=later_noise(latents.shape, job.plan.seed),
    )


def _render(
    job: _Job,
    latents: Tensor,
    tags: Callable[[Tiling | None], Mapping[str, str]],
    memory: Memory,
    progress: Progress,
    look: Look,
    *,
    keep_frames: bool,
) -> Rendered:
    plan = job.plan
    if plan.output != "mp4":
        return render_picture(
            job.model, latents, job.out, plan.output, memory, progress, tags=tags, look=look
        )
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
        look=look,
    )


def local_abilities(found: Found, model: WanModel | None = None) -> LocalAbilities:
    """What a check needs to know of the interpolators that were found, and of the model if there is one."""
    return LocalAbilities(
        interpolators=found.names,
        unusable_interpolators=found.refused,
        prompt_expander=model is not None and model.prompt_expander is not None,
        safety_checker=model is not None and model.safety_checker is not None,
        lacking={} if model is None else lacking(model),
    )


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
