"""Runs a request on this machine: check, plan, encode text, sample, decode, interpolate, write, receipt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..device.memory import Memory
from ..embedded.toy_model import embedded_loras
from ..errors import ModelError, RequestError
from ..interpolation.interpolator_files import Interpolators, interpolator_record, make_interpolator
from ..kernels.choices import FloatChoices
from ..loading.host_model import AnyModel, HostModel, HostPrompts, HostStart, has_whole_vae
from ..parallel.gpu_world import GpuWorld
from ..plan.plan import Plan, make_plan
from ..plan.plan_text import describe
from ..progress import Progress
from ..request.base import WanRequest
from ..request.check import check
from ..request.field_case import LocalAbilities
from ..request.local_settings import stage_loras
from ..request.report import Finding, Report, Tell, silent
from ..request.seeds import seed_for_run
from ..request.seeds_of_count import one_per_seed
from ..sampling.engine import Prompts
from ..sampling.noise import StartLatents, initial_noise, noise_sampler
from ..sampling.schedule import Sampling
from ..sampling.step_cache import REGULAR, StepCache
from ..sampling.step_fingerprints import STEP_FINGERPRINTS, StepFingerprints
from ..sampling.windowed_experts import free_noise
from ..vae.latent_space import vae_kernels
from ..vae.tiles import Tiling
from ..video.edit import Edit
from ..video.frame_hash import FRAMES_SHA256, PENDING
from ..video.local_file import FindFile, any_file
from ..video.more_frames import Interpolator
from ..video.output import require_suffix, reserved_output, write_sidecar
from ..video.tags import RECEIPT
from ..weights.lora.find import LoraSources
from .conditions import ImageConditions
from .cpu_settings import threads_of
from .gpu_choice import layout_of_run
from .host_sampling import sample_on_host
from .kept_latents import KeptLatents, Sampled
from .local_receipt import Recorded, latents_hash, make_receipt, require_same_files
from .lora_chain import with_loras
from .lora_findings import attached_remarks, fit_findings, lora_findings
from .media_inputs import MediaInputs, read_media_inputs
from .memory_estimate import estimate_host_memory, estimate_memory
from .phase_loras import with_phase_loras
from .prepared_run import Run
from .prompt import expanded_prompt, helpers_record, prompt_conditions, token_counter
from .recorded_inputs import recorded_inputs
from .render import Rendered, render, render_image, tiling_note
from .required_weights import expert_file_names, lora_names, missing_weights, with_lightning
from .result import Result, StageTimer
from .safety import required_checker, result_check
from .sampling_key import sampling_key
from .speech_run import SPEECH, estimate_speech_memory, help_speech, make_speech
from .stages import float_choices, sample
from .start_images import conditions_of
from .start_latents import input_latents
from .stored_findings import stored_findings

__all__ = [
    "Acceleration",
    "Checked",
    "Result",
    "checked",
    "decide",
    "edit_of_plan",
    "interpolator_of_plan",
    "local_abilities",
    "receipt_of",
    "repeat",
    "run",
    "sample_latents",
    "take_part",
]

log = logging.getLogger(__name__)

Acceleration = Literal["exact", "as requested"]


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

    out:           a .mp4, .png or .jpg file, or a function that returns it for a plan.
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
    return make_speech(decided, pose_video) if request.task == SPEECH else _execute(decided)


@dataclass(frozen=True)
class Checked:
    """A request that can run here. model: with its LoRAs. cache_threshold: of the step cache, if any."""

    report: Report
    plan: Plan
    model: AnyModel
    inputs: MediaInputs
    cache_threshold: float | None


def checked(
    request: WanRequest,
    model: AnyModel,
    *,
    interpolators: Interpolators,
    lora_sources: LoraSources,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    find: FindFile = any_file,
    found: Sequence[Finding] = (),
    acceleration: Acceleration = "exact",
    allow_partial_loras: bool = False,
    pose_video: Path | None = None,
    max_seconds: float | None = None,
    inputs: MediaInputs | None = None,
) -> Checked:
    """Check and plan the request, read its inputs and attach its LoRAs. Loads no weights.

    inputs: those of a request whose files are not there yet. The others are arguments of `run`.

    Raises RequestError, MediaError and ModelError as `run` does before it
    loads anything.
    """
    if len(one_per_seed(request)) > 1:
        raise RequestError.of("local.count", "not 1 in a single run", "run each request of `one_per_seed`")
    inputs = read_media_inputs(request, media, find) if inputs is None else inputs
    model = with_lightning(model, request.task, lora_sources)
    # A host brings step caches of its own, as patches on its MODEL.
    step_cache = acceleration == "as requested" and not isinstance(model, HostModel)
    abilities = replace(local_abilities(interpolators, model), step_cache=step_cache)
    report = check(request, family=model.family, abilities=abilities, media=inputs.facts, found=found)
    resolved = report.require()
    if request.task != SPEECH:
        for name, value in (("pose_video", pose_video), ("max_seconds", max_seconds)):
            if value is not None:
                fix = f"leave it out; only {SPEECH} uses it"
                raise RequestError.of(name, f"given for {request.task}", fix)
    seed = seed_for_run(request, "local")
    plan = make_plan(resolved, model.family, seed, boundary=model.boundary, max_seconds=max_seconds)
    model = _with_loras(request, model, plan, lora_sources, progress, allow_partial=allow_partial_loras)
    report = _with_lora_findings(report, request, lora_sources, model)
    threshold = REGULAR if resolved.values.get("acceleration") == "regular" else None
    return Checked(report, plan, model, inputs, threshold)


def repeat(
    recorded: Recorded,
    model: AnyModel,
    *,
    out: Path,
    memory: Memory,
    progress: Progress,
    media: Mapping[str, Path] = MappingProxyType({}),
    lora_sources: LoraSources | None = None,
    interpolators: Interpolators | None = None,
    check_memory: bool = True,
    pose_video: Path | None = None,
    tell: Tell = silent,
) -> Result:
    """Generate the video or image of a receipt again.

    media: {field: file} of the inputs. A missing one is looked up by name and hash in the current folder and
           beside the receipt.
    check_memory, pose_video, tell: as for `run`.

    Raises ModelError when weight files or inputs differ from the recorded ones, and SamplingError when the
    latents or the frames differ. The message then names the differences between the two machines.
    """
    sources = lora_sources or LoraSources(embedded=embedded_loras())
    plain = model = with_lightning(model, recorded.request.task, sources)
    # A partial LoRA was allowed in the first run, and the files must be the same.
    model = _with_loras(recorded.request, model, recorded.plan, sources, progress, allow_partial=True)
    require_same_files(recorded, model)
    model = replace(model, preferences=recorded.preferences)
    available = interpolators or Interpolators()
    _require_interpolator(recorded.plan, available)
    found = recorded_inputs(recorded.inputs, (Path.cwd(), recorded.folder))
    inputs = read_media_inputs(recorded.request, {**found, **media})
    inputs.require(recorded.inputs)
    threshold = recorded.cache_threshold
    abilities = replace(local_abilities(available, plain), step_cache=threshold is not None)
    report = check(recorded.request, family=model.family, abilities=abilities, media=inputs.facts)
    report = _with_lora_findings(report, recorded.request, sources, model)
    decided = decide(
        recorded.request,
        Checked(report, recorded.plan, model, inputs, threshold),
        memory,
        progress,
        out,
        prompt=recorded.prompt,
        interpolators=available,
        check_memory=check_memory,
        tell=tell,
    )
    with threads_of(recorded.cpu):
        if recorded.request.task == SPEECH:
            return make_speech(decided, pose_video, recorded)
        return _execute(decided, recorded)


def decide(
    request: WanRequest,
    ready: Checked,
    memory: Memory,
    progress: Progress,
    out: Path,
    *,
    world: GpuWorld | None = None,
    **options: Any,
) -> Run:
    """Make the remaining decisions, before anything is loaded. options: further fields of `Run`.

    world: the ranks that compute together; None for one device.

    Raises RequestError when the suffix of `out` does not fit the result, ModelError when the device cannot do
    the run.
    """
    plan, model, inputs = ready.plan, ready.model, ready.inputs
    require_suffix(out, plan.output)
    report = ready.report.with_findings(stored_findings(model, memory.device))
    log.info("%s", describe(plan))
    options["tell"](report.told)
    vae = vae_kernels(model, memory)
    if isinstance(model, HostModel):
        estimate = estimate_host_memory(model, memory, plan.latent_shape)
        choices = FloatChoices(kernels=vae.kernels, refused=vae.refused)
    elif request.task == SPEECH:
        estimate = estimate_speech_memory(model, plan, inputs, memory)
        # The choice is for the VAE. The blocks of a speech model have none.
        choices = FloatChoices(kernels=vae.kernels, refused=vae.refused)
    else:
        steps, cached = plan.networks[plan.start_step :], ready.cache_threshold is not None
        estimate = estimate_memory(model, memory, plan.forward_shape, steps, cached=cached)
        choices = float_choices(model, plan.forward_shape, memory)
    # Decided once, so that the VAE is loaded with what the receipt says.
    model = replace(model, preferences=replace(model.preferences, vae=vae))
    ranks = None if world is None else world.arrange(layout_of_run(model, plan, len(world.devices)))
    if ranks is not None:
        log.info("%s", ranks.text())
    log.info("%s", estimate.text())
    if options["check_memory"]:
        estimate.require_room()
    checker = required_checker(request, model, inputs)
    return Run(
        request,
        report,
        plan,
        model,
        inputs,
        memory,
        progress,
        estimate,
        choices,
        vae,
        checker,
        out,
        cache_threshold=ready.cache_threshold,
        ranks=ranks,
        **options,
    )


def take_part(run: Run, pose_video: Path | None = None) -> None:
    """Sample as a rank other than 0: compute its part, and write nothing."""
    if run.request.task == SPEECH:
        help_speech(run, pose_video)
    else:
        sample_latents(run, StageTimer())


def _with_loras(
    request: WanRequest,
    model: AnyModel,
    plan: Plan,
    sources: LoraSources,
    progress: Progress,
    *,
    allow_partial: bool,
) -> AnyModel:
    loras = [*(getattr(request, "loras", None) or ()), *stage_loras(request.local)]
    model = with_loras(model, loras, sources, progress, allow_partial=allow_partial)
    return with_phase_loras(model, request.local, plan, sources, progress, allow_partial=allow_partial)


def _with_lora_findings(report: Report, request: WanRequest, sources: LoraSources, model: AnyModel) -> Report:
    """Add what the files of the LoRAs say. Attaching them has refused those that do not fit."""
    told = report.with_findings(lora_findings(request, sources, model.family.experts))
    return told.with_findings(fit_findings(request, sources, model, model.family, allow_partial=True))


def _execute(run: Run, expected: Recorded | None = None) -> Result:
    """Run the stages and write the result. expected: the receipt of the run that is repeated, if any."""
    plan, out, timer = run.plan, run.out, StageTimer()
    key = None if run.kept is None else sampling_key(run)
    kept = None if run.kept is None or key is None else run.kept.find(key)
    with reserved_output(out) as staged:
        sampled = sample_latents(run, timer) if kept is None else _reused(run, kept)
        latents, prompt, fingerprint = sampled.latents, sampled.prompt, latents_hash(sampled.latents)
        if expected is not None:
            expected.require_latents(fingerprint, sampled.steps)
        if run.kept is not None and key is not None and kept is None:
            run.kept.keep(key, sampled)
        receipt = receipt_of(run, sampled, fingerprint)
        if kept is not None:
            receipt["latents_reused"] = True
        if plan.num_interpolated_frames:
            receipt["interpolator"] = interpolator_record(plan.interpolator, run.interpolators, run.memory)
        with timer.stage("video"):

            def tags(tiling: Tiling | None) -> dict[str, str]:
                if not run.embed_receipt:
                    return dict(run.tags)
                decided = {FRAMES_SHA256: PENDING, "decoded": _decoded(run, tiling)}
                known = {**receipt, **decided, "timings_s": timer.seconds}
                return {**run.tags, RECEIPT: json.dumps(known)}

            def accept(sha256: str, tiling: Tiling | None) -> None:
                if expected is not None:
                    expected.require_frames(sha256, _decoded(run, tiling))

            made = _render(run, latents, staged, tags, accept)
        receipt |= {FRAMES_SHA256: made.frames_sha256, "decoded": _decoded(run, made.tiling)}
        receipt["timings_s"] = timer.seconds
        write_sidecar(staged, receipt)
    images = torch.from_numpy(np.stack(made.frames)).float() / 255 if made.frames else None
    return Result(out, plan.seed, prompt, receipt, images)


def receipt_of(run: Run, sampled: Sampled, latents_sha256: str) -> dict[str, Any]:
    """Return the receipt of a run whose latents are there."""
    receipt = make_receipt(run, sampled.notes, prompt=sampled.prompt, latents_sha256=latents_sha256)
    if sampled.steps:
        receipt[STEP_FINGERPRINTS] = list(sampled.steps)
    receipt |= helpers_record(run)
    if sampled.acceleration is not None:
        receipt["acceleration"] = dict(sampled.acceleration)
    return receipt


def _decoded(run: Run, tiling: Tiling | None) -> str:
    """Say for the receipt how the frames were decoded."""
    if has_whole_vae(run.model):
        return f"the whole clip in one go, by {run.model.whole_vae} of ComfyUI"
    return tiling_note(tiling)


def sample_latents(run: Run, timer: StageTimer) -> Sampled:
    """Encode prompt and inputs of a run, and sample. Raises SamplingError and ModelError as `run` does."""
    with timer.stage("prompt"):
        prompt = expanded_prompt(run)
    with timer.stage("text"):
        prompts, notes = prompt_conditions(run, prompt)
    with timer.stage("input"):
        latents = input_latents(run)
        conditions = conditions_of(run)
    cache = None if run.cache_threshold is None else StepCache(run.cache_threshold)
    steps = StepFingerprints(run.progress)
    with timer.stage("sampling"):
        latents = _sample(replace(run, progress=steps), latents, conditions, prompts, cache)
    acceleration = None if cache is None else cache.as_dict()
    return Sampled(latents, prompt, notes, acceleration, tuple(steps.taken))


def _reused(run: Run, kept: Sampled) -> Sampled:
    """Return `kept`, after the checks of prompt and inputs that a run that samples makes too."""
    log.info("the latents of an earlier run are used again: this run only decodes and encodes")
    expanded_prompt(replace(run, prompt=kept.prompt))
    run.say(kept.notes)
    return kept


def _sample(
    run: Run,
    latents: Tensor,
    conditions: ImageConditions,
    prompts: Prompts | HostPrompts,
    cache: StepCache | None,
) -> Tensor:
    seed = run.plan.seed
    if isinstance(prompts, HostPrompts):
        return _sample_on_host(run, latents, conditions, prompts)
    noise, windows = initial_noise(latents.shape, seed), run.plan.context_windows
    if windows is not None and windows.freenoise:
        noise = free_noise(noise, windows, seed)
    start = StartLatents(
        conditions.start(latents),
        noise,
        kept=conditions.frames,
        noise_sampler=noise_sampler(latents.shape, seed),
    )
    return sample(
        run.own_model,
        Sampling.of_plan(run.plan),
        start,
        conditions.beside(prompts, run.model.vae),
        run.memory,
        run.progress,
        check_memory=False,  # done before the run started
        cache=cache,
        residency=run.estimate.residency,
        choices=run.choices,
        ranks=run.ranks,
    )


def _sample_on_host(run: Run, latents: Tensor, conditions: ImageConditions, prompts: HostPrompts) -> Tensor:
    model, plan = run.model, run.plan
    assert isinstance(model, HostModel)  # noqa: S101
    mask = None if conditions.frames is None else (~conditions.frames).float().view(1, 1, -1, 1, 1)
    start = HostStart(conditions.start(latents), initial_noise(latents.shape, plan.seed), mask, plan.seed)
    return sample_on_host(
        model, Sampling.of_plan(plan), start, conditions.on_host(prompts, model), run.progress
    )


def _render(
    run: Run,
    latents: Tensor,
    staged: Path,
    tags: Callable[[Tiling | None], Mapping[str, str]],
    accept: Callable[[str, Tiling | None], None],
) -> Rendered:
    """Write the result to `staged`. Latents that must be kept lie beside its final place."""
    plan, check = run.plan, result_check(run.checker, run.request)
    target = run.model, latents, staged
    if plan.output != "mp4":
        return render_image(
            *target,
            plan.output,
            run.memory,
            run.progress,
            tags=tags,
            check=check,
            place=run.out,
            accept=accept,
        )
    return render(
        *target,
        edit_of_plan(plan),
        run.memory,
        run.progress,
        frames=plan.frames_delivered,
        interpolator=interpolator_of_plan(plan, run.interpolators, run.memory),
        tags=tags,
        keep_frames=run.return_images,
        check=check,
        place=run.out,
        planned=(plan.frames_out, plan.fps_out),
        accept=accept,
    )


def local_abilities(available: Interpolators, model: AnyModel | None = None) -> LocalAbilities:
    """Return what `check` must know about the interpolators and, if given, the model."""
    host = model if isinstance(model, HostModel) else None
    return LocalAbilities(
        interpolators=available.names,
        unusable_interpolators=available.refused,
        prompt_expander=model is not None and model.prompt_expander is not None,
        safety_checker=model is not None and model.safety_checker is not None,
        missing_weights={} if model is None else missing_weights(model),
        remarks=_remarks(model),
        attached_loras=() if model is None else (*lora_names(model), *expert_file_names(model)),
        patched_shift=None if host is None else host.facts["high"].shift,
        count_tokens=None if model is None else token_counter(model),
        own_engine=host is None,
    )


def _remarks(model: AnyModel | None) -> tuple[str, ...]:
    if model is None:
        return ()
    return (*model.notes, *(attached_remarks(model.loras) if model.family.experts == 2 else ()))


def _require_interpolator(plan: Plan, available: Interpolators) -> None:
    if plan.interpolator not in ("none", *available.names):
        raise ModelError(
            f"interpolator_model: the receipt used {plan.interpolator}, but no file for it was found; give "
            "the folder that contains one"
        )


def edit_of_plan(plan: Plan) -> Edit:
    """Return how the frames of a plan become a file."""
    return Edit(
        Fraction(plan.fps),
        plan.reverse,
        plan.interpolator,
        plan.num_interpolated_frames,
        plan.fps_out != plan.fps,
        plan.video_quality,
        plan.video_write_mode,
    )


def interpolator_of_plan(plan: Plan, available: Interpolators, memory: Memory) -> Interpolator | None:
    """Return the interpolator that the plan names, or None if it adds no frames."""
    if not plan.num_interpolated_frames:
        return None
    return make_interpolator(plan.interpolator, available, memory, width=plan.width, height=plan.height)
