"""The stages of a decided run, from sampling to the file and the receipt beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..interpolation.interpolator_files import interpolator_record
from ..loading.host_model import has_whole_vae
from ..parallel.rank_group import RankGroup
from ..request.result_formats import CODECS_OF
from ..sampling.step_fingerprints import STEP_FINGERPRINTS
from ..vae.tiles import Tiling
from ..video.frame_hash import FRAMES_SHA256, PENDING
from ..video.output import reserved_output, write_sidecar
from ..video.tags import RECEIPT
from .kept_latents import Sampled
from .local_receipt import Recorded, latents_hash, make_receipt
from .planned_video import edit_of_plan, interpolator_of_plan, wish_of_plan
from .prepared_run import Run
from .prompt import expanded_prompt, helpers_record
from .render import Rendered, render, render_image, tiling_note
from .result import Result, StageTimer
from .safety import result_check
from .sampled_latents import sample_latents
from .sampling_key import sampling_key
from .shared_decoding import decoding_group

__all__ = ["execute", "receipt_of"]

log = logging.getLogger(__name__)


def execute(run: Run, expected: Recorded | None = None) -> Result:
    """Run the stages and write the result. expected: the receipt of the run that is repeated, if any."""
    plan, out, timer = run.plan, run.out, StageTimer.of(run.devices)
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
        group = decoding_group(run, latents)
        with timer.stage("video"):

            def tags(tiling: Tiling | None) -> dict[str, str]:
                if not run.embed_receipt:
                    return dict(run.tags)
                decided = {FRAMES_SHA256: PENDING, "decoded": _decoded(run, tiling, group)}
                known = {**receipt, **decided, "timings_s": timer.seconds}
                return {**run.tags, RECEIPT: json.dumps(known)}

            def accept(sha256: str, tiling: Tiling | None) -> None:
                if expected is not None:
                    expected.require_frames(sha256, _decoded(run, tiling, group))

            made = _render(run, latents, staged, group, tags, accept)
        receipt |= {FRAMES_SHA256: made.frames_sha256, "decoded": _decoded(run, made.tiling, group)}
        receipt |= timer.record()
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


def _decoded(run: Run, tiling: Tiling | None, group: RankGroup | None) -> str:
    """Say for the receipt how the frames were decoded."""
    if has_whole_vae(run.model):
        return f"the whole clip in one go, by {run.model.whole_vae} of ComfyUI"
    return tiling_note(tiling) if group is None else f"{tiling_note(tiling)}, by rows on {group.size} devices"


def _reused(run: Run, kept: Sampled) -> Sampled:
    """Return `kept`, after the checks of prompt and inputs that a run that samples makes too."""
    log.info("the latents of an earlier run are used again: this run only decodes and encodes")
    expanded_prompt(replace(run, prompt=kept.prompt))
    run.say(kept.notes)
    return kept


def _render(
    run: Run,
    latents: Tensor,
    staged: Path,
    group: RankGroup | None,
    tags: Callable[[Tiling | None], Mapping[str, str]],
    accept: Callable[[str, Tiling | None], None],
) -> Rendered:
    """Write the result to `staged`. Latents that must be kept lie beside its final place."""
    plan, check = run.plan, result_check(run.checker, run.request)
    target = run.model, latents, staged
    if plan.output not in CODECS_OF:
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
        wish=wish_of_plan(plan),
        group=group,
    )
