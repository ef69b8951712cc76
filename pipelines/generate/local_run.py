"""Runs a request on this machine: check, plan, text, sampling, decode -> interpolate -> encode, receipt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..embedded.embedded import embedded_loras
from ..errors import ModelError, RequestError, SamplingError
from ..interpolation.interpolator_files import Found, interpolator_record, make_interpolator
from ..kernels.choices import FloatChoices
from ..loading.wan_model import WanModel
from ..plan.plan import Plan, describe, make_plan
from ..progress import Progress
from ..request.base import WanRequest
from ..request.case import LocalAbilities
from ..request.check import check
from ..request.report import Report
from ..request.seeds import seed_for_run
from ..sampling.engine import Prompts
from ..sampling.noise import StartLatents, draw_noise, later_noise
from ..sampling.schedule import Sampling
from ..sampling.step_cache import REGULAR, StepCache
from ..vae.tiles import Tiling
from ..video.edit import Edit
from ..video.local_file import FindFile, any_file
from ..video.more_frames import Interpolator
from ..video.output import output_place, require_suffix, write_sidecar
from ..video.tags import RECEIPT
from ..weights.lora.find import LoraSources
from .conditions import Pictures
from .decided import Run
from .local_receipt import Recorded, differences, latents_hash, make_receipt, require_same_files
from .lora_chain import with_loras
from .media_inputs import Given, look_at_media
from .preflight import look_ahead
from .prompt import drawn_prompt, helpers_record, read_prompts
from .render import Rendered, render, render_picture, tiling_note
from .required_weights import lacking, with_lightning
from .result import Clock, Result
from .safety import chosen_checker, look_at_result
from .speech_run import SPEECH, look_ahead_to_speech, make_speech
from .stages import float_choices, sample
from .start_images import pictures_of
from .start_latents import starting_latents

__all__ = ["Acceleration", "Result", "local_abilities", "repeat", "run"]

log = logging.getLogger(__name__)

Acceleration = Literal["exact", "as requested"]


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
    model = _with_loras(request, model, lora_sources, progress, allow_partial=allow_partial_loras)
    decided = _decided(
        request,
        report,
        plan,
        model,
        given,
        memory,
        progress,
        out if isinstance(out, Path) else out(plan),
        interpolators=found,
        tags=dict(tags or {}),
        embed_receipt=embed_receipt,
        return_images=return_images,
        check_memory=check_memory,
        cache_threshold=REGULAR if resolved.values.get("acceleration") == "regular" else None,
    )
    return make_speech(decided, pose_video) if request.task == SPEECH else _execute(decided)


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
    model = replace(model, preferences=recorded.preferences)
    found = interpolators or Found()
    _require_interpolator(recorded.plan, found)
    given = look_at_media(recorded.request, media)
    given.require(recorded.inputs)
    threshold = recorded.cache_threshold
    abilities = replace(local_abilities(found, model), step_cache=threshold is not None)
    report = check(recorded.request, family=model.family, abilities=abilities, media=given.facts)
    decided = _decided(
        recorded.request,
        report,
        recorded.plan,
        model,
        given,
        memory,
        progress,
        out,
        prompt=recorded.prompt,
        interpolators=found,
        check_memory=check_memory,
        cache_threshold=threshold,
    )
    if recorded.request.task == SPEECH:
        return make_speech(decided, pose_video, recorded)
    return _execute(decided, recorded)


def _decided(
    request: WanRequest,
    report: Report,
    plan: Plan,
    model: WanModel,
    given: Given,
    memory: Memory,
    progress: Progress,
    out: Path,
    **options: Any,
) -> Run:
    """The rest of what is decided before anything is loaded. options: of `Run`.

    Raises RequestError for a name that does not fit the result, ModelError for what the device cannot do.
    """
    require_suffix(out, plan.output)
    log.info("%s", describe(plan))
    if request.task == SPEECH:
        ahead = look_ahead_to_speech(model, plan, given, memory)
        dtype = compute_dtype(model.precision, memory, "transformer")
        kernels, refused = model.preferences.kernels_on(memory.device, dtype)
        choices = FloatChoices(kernels=kernels, refused=refused)  # of its VAE: its blocks have no others
    else:
        steps, cached = plan.experts[plan.start_step :], options["cache_threshold"] is not None
        ahead = look_ahead(model, memory, plan.latent_shape, steps, cached=cached)
        choices = float_choices(model, plan.latent_shape, memory)
        # One decision for the whole run, the VAE and the receipt included.
        model = replace(model, preferences=replace(model.preferences, kernels=choices.kernels))
    log.info("%s", ahead.text())
    if options["check_memory"]:
        ahead.require_room()
    checker = chosen_checker(request, model, given)
    return Run(request, report, plan, model, given, memory, progress, ahead, choices, checker, out, **options)


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


def _execute(run: Run, expected: Recorded | None = None) -> Result:
    """expected: of a run that is repeated."""
    plan, out, clock = run.plan, run.out, Clock()
    with output_place(out):
        with clock.stage("prompt"):
            prompt = drawn_prompt(run)
        with clock.stage("text"):
            prompts, notes = read_prompts(run, prompt)
        with clock.stage("input"):
            latents = starting_latents(run)
            pictures = pictures_of(run)
        cache = None if run.cache_threshold is None else StepCache(run.cache_threshold)
        with clock.stage("sampling"):
            latents = _sample(run, latents, pictures, prompts, cache)
        fingerprint = latents_hash(latents)
        if expected is not None and fingerprint != expected.latents_sha256:
            raise SamplingError(f"the latents are not those of the receipt; {differences(expected)}")
        receipt = make_receipt(run, notes, prompt=prompt, latents_sha256=fingerprint) | helpers_record(run)
        if cache is not None:
            receipt["acceleration"] = cache.as_dict()
        if plan.num_interpolated_frames:
            receipt["interpolator"] = interpolator_record(plan.interpolator, run.interpolators, run.memory)
        with clock.stage("video"):

            def tags(tiling: Tiling | None) -> dict[str, str]:
                if not run.embed_receipt:
                    return dict(run.tags)
                known = {**receipt, "decoded": tiling_note(tiling), "timings_s": clock.seconds}
                return {**run.tags, RECEIPT: json.dumps(known)}

            made = _render(run, latents, tags)
        receipt["decoded"] = tiling_note(made.tiling)
        receipt["timings_s"] = clock.seconds
        write_sidecar(out, receipt)
    images = torch.from_numpy(np.stack(made.frames)).float() / 255 if made.frames else None
    return Result(out, plan.seed, prompt, receipt, images)


def _sample(
    run: Run, latents: Tensor, pictures: Pictures, prompts: Prompts, cache: StepCache | None
) -> Tensor:
    seed = run.plan.seed
    start = StartLatents(
        pictures.start(latents),
        draw_noise(latents.shape, seed),
        kept=pictures.frames,
        later=later_noise(latents.shape, seed),
    )
    return sample(
        run.model,
        Sampling.of_plan(run.plan),
        start,
        pictures.beside(prompts, run.model.vae),
        run.memory,
        run.progress,
        check_memory=False,  # whoever decided what follows looked
        cache=cache,
        residency=run.ahead.residency,
        choices=run.choices,
    )


def _render(run: Run, latents: Tensor, tags: Callable[[Tiling | None], Mapping[str, str]]) -> Rendered:
    plan, look = run.plan, look_at_result(run.checker, run.request)
    target = run.model, latents, run.out
    if plan.output != "mp4":
        return render_picture(*target, plan.output, run.memory, run.progress, tags=tags, look=look)
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
        *target,
        edit,
        run.memory,
        run.progress,
        frames=plan.frames_delivered,
        interpolator=_interpolator(run),
        tags=tags,
        keep_frames=run.return_images,
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


def _interpolator(run: Run) -> Interpolator | None:
    plan = run.plan
    if not plan.num_interpolated_frames:
        return None
    return make_interpolator(
        plan.interpolator, run.interpolators, run.memory, width=plan.width, height=plan.height
    )
