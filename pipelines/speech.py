"""Runs a speech-to-video request on this machine: sound, image and prompt become a video with its sound."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import ModelError, RequestError, SamplingError
from .given import Given
from .kernels.choices import FloatChoices
from .media.audio import Audio, mono_at
from .media.encode import encode_video
from .media.frames import Frame, FrameStream, video_frames
from .media.picture import fit, read_picture
from .media.probe import probe, verify
from .media.read import read_frames
from .media.tags import RECEIPT
from .memory import Memory, compute_dtype
from .models.executor import Executor
from .models.residency import Residency
from .models.s2v_engine import SPEAKER
from .models.s2v_features import frame_features
from .models.wan_model import WanModel
from .models.wav2vec import SAMPLE_RATE, hear, hearing_bytes
from .output import output_place, require_suffix, write_sidecar
from .plan.plan import Plan, describe
from .plan.sigmas import forwards_of
from .preflight import Preflight, Stage, look_ahead, sampling_bytes
from .progress import Progress, Silent
from .prompt import drawn_prompt, helpers_record, read_prompts
from .receipt import Recorded, differences, make_receipt
from .render import seen, tee
from .request.base import WanRequest
from .request.report import Report
from .result import Clock, Result
from .safety import chosen_checker, look_at_result
from .sampling.engine import Prompts
from .sampling.schedule import Schedule
from .speech_clips import Script, speaking_frames
from .weights.footprint import weight_bytes
from .weights.hashing import file_hash
from .weights.recipe import Recipe

__all__ = ["SPEECH", "make_speech"]

log = logging.getLogger(__name__)

SPEECH = "speech-to-video"  # the task


@dataclass(frozen=True)
class _Job:
    """Everything that is decided before anything is loaded."""

    request: WanRequest
    report: Report
    model: WanModel
    ears: Recipe
    plan: Plan
    given: Given
    sound: Audio
    picture: Tensor
    pose: Path | None

    @property
    def clip_frames(self) -> int:
        return 4 * self.plan.latent_shape[1]

    @property
    def clips(self) -> int:
        return -(-self.plan.frames_delivered // self.clip_frames)


def make_speech(
    request: WanRequest,
    report: Report,
    model: WanModel,
    plan: Plan,
    given: Given,
    *,
    out: Path | Callable[[Plan], Path],
    memory: Memory,
    progress: Progress,
    tags: Mapping[str, str],
    return_images: bool = False,
    embed_receipt: bool = True,
    check_memory: bool = True,
    pose_video: Path | None = None,
    expected: Recorded | None = None,
) -> Result:
    """Make the video of `request` in `out` (an .mp4), with its sound, and its receipt beside it.

    given:       the image and the sound.
    pose_video:  whose frames lead the body; resized and cropped like the image. Where it ends, so does that.
    expected:    of a run that is repeated.
    The others are as for `local.run`, which also says what is raised.

    The receipt inside the file is written before the first clip is sampled: it lacks the hash of the latents
    and the timings that the one beside it has.
    """
    job, clock = _decided(request, report, model, plan, given, pose_video), Clock()
    out = out if isinstance(out, Path) else out(plan)
    require_suffix(out, plan.output)
    log.info("%s, in clips of %d frames: %d", describe(plan), job.clip_frames, job.clips)
    ahead = _look_ahead(job, memory)
    log.info("%s", ahead.text())
    if check_memory:
        ahead.require_room()
    checker = chosen_checker(request, model, given)
    hashes: list[str] = []
    with output_place(out):
        with clock.stage("prompt"):
            known = None if expected is None else expected.prompt
            prompt = drawn_prompt(request, model, given, checker, known, memory, progress)
        with clock.stage("text"):
            prompts, notes = read_prompts(model, request, plan, prompt, memory, progress)
        with clock.stage("sound"):
            features = _heard(job, memory, progress)
        receipt = _receipt(job, prompt, memory, ahead, notes) | helpers_record(request, model, checker)
        inside = {**tags, RECEIPT: json.dumps(receipt)} if embed_receipt else dict(tags)
        kept: list[Frame] = []
        with clock.stage("video"):
            frames = _frames(job, prompts, features, memory, progress, hashes, ahead.residency, expected)
            frames = seen(frames, look_at_result(checker, request))
            facts = encode_video(
                tee(frames, kept) if return_images else frames,
                out,
                width=plan.width,
                height=plan.height,
                fps=Fraction(plan.fps),
                frame_count=plan.frames_delivered,
                quality=plan.video_quality,
                write_mode=plan.video_write_mode,
                tags=inside,
                audio=job.sound,
                progress=_OnlyChecks(progress),
            )
            verify(probe(out), frames=facts.frames, width=plan.width, height=plan.height, fps=facts.fps)
        receipt |= {"latents_sha256": _all_of(hashes), "timings_s": clock.seconds}
        write_sidecar(out, receipt)
    images = torch.from_numpy(np.stack(kept)).float() / 255 if return_images else None
    return Result(out, plan.seed, prompt, receipt, images)


def _decided(
    request: WanRequest,
    report: Report,
    model: WanModel,
    plan: Plan,
    given: Given,
    pose_video: Path | None,
) -> _Job:
    """ModelError for a model without ears, MediaError for a picture or a pose that cannot be read."""
    if model.wishes.attention not in (None, "sdpa") or model.wishes.compiler is not None:
        raise ModelError("attention, compile: the speech model has no choice of either; leave them alone")
    if model.audio_encoder is None:
        raise ModelError(f"{model.name}: has no audio encoder; load one with the model")
    if given.sound is None:
        raise RequestError.of("audio_url", "not given", "give a file that is heard")
    picture = read_picture(given.files["image_url"].content)
    if pose_video is not None:
        probe(pose_video)  # before any work: MediaError when it cannot be read
    fitted = fit(picture[None], plan.width, plan.height)[0].permute(2, 0, 1) * 2 - 1
    sound = _cut(given.sound, plan)
    return _Job(request, report, model, model.audio_encoder, plan, given, sound, fitted, pose_video)


def _cut(sound: Audio, plan: Plan) -> Audio:
    """The sound to the end of the last frame, where the video ends before it; else whole."""
    if round(sound.samples.shape[1] / sound.rate * plan.fps) <= plan.frames_delivered:
        return sound
    heard = round(plan.frames_delivered / plan.fps * sound.rate)
    return Audio(sound.samples[:, :heard], sound.rate)


def _look_ahead(job: _Job, memory: Memory) -> Preflight:
    """What the other runs need, with the tokens of image and motion, and the audio encoder."""
    ahead = look_ahead(job.model, memory, _token_shape(job), job.plan.experts, kind=SPEAKER)
    samples = round(job.sound.samples.shape[1] / job.sound.rate * SAMPLE_RATE)
    weights = weight_bytes(job.ears, lambda _: torch.float32)
    hearing = Stage("audio encoder", weights, 0, hearing_bytes(job.ears.config, samples))
    return replace(ahead, stages=(hearing, *ahead.stages))


def _token_shape(job: _Job) -> tuple[int, int, int, int]:
    """Latents with as many tokens: the image is one frame more, the motion is packed into one and a half."""
    channels, frames, rows, columns = job.plan.latent_shape
    return channels, frames + 3, rows, columns


def _heard(job: _Job, memory: Memory, progress: Progress) -> Tensor:
    """(1, states, D, clips x clip_frames). In float32, as the official code hears."""
    progress.begin("sound", 1, "sounds")
    samples = mono_at(job.sound, SAMPLE_RATE)
    states = hear(job.ears, samples, torch.float32, memory, progress.check)
    if not bool(torch.isfinite(states).all()):
        raise SamplingError("the audio encoder gave numbers that are not finite; its file may be damaged")
    progress.advance(1)
    return frame_features(states, job.plan.fps, job.clips * job.clip_frames)


def _frames(
    job: _Job,
    prompts: Prompts,
    features: Tensor,
    memory: Memory,
    progress: Progress,
    hashes: list[str],
    residency: Residency | None,
    check: Recorded | None,
) -> FrameStream:
    """The frames of all clips. Raises SamplingError at the end when they are not those of `check`."""
    plan, model = job.plan, job.model
    script = Script(
        frames=plan.frames_delivered,
        clip_frames=job.clip_frames,
        latent_shape=(1, *plan.latent_shape),
        schedule=Schedule.of_plan(plan),
        solver=plan.solver,
        guidance=plan.guidance,
        seed=plan.seed,
        prompts=prompts,
        features=features,
        picture=job.picture,
        pose=None if job.pose is None else _poses(job, job.pose),
    )
    dtype, recipe = compute_dtype(model.precision, memory.device), model.experts["high"]
    speaker = Executor(
        {"high": recipe},
        dtype,
        memory,
        progress.check,
        sampling_bytes(recipe, _token_shape(job), dtype),
        forwards=forwards_of(script.schedule.experts, script.guidance),
        residency=residency,
        kind=SPEAKER,
    )
    yield from video_frames(speaking_frames(script, model, speaker, memory, progress, hashes))
    if check is not None and _all_of(hashes) != check.latents_sha256:
        raise SamplingError(f"the latents are not those of the receipt; {differences(check)}")


def _poses(job: _Job, file: Path) -> Iterator[Tensor]:
    """Frames at about the rate of the video, (3, H, W) in [-1, 1]; black after the last one."""
    every = max(1, round(probe(file).fps / job.plan.fps))
    size = job.plan.width, job.plan.height
    shown = (
        fit(torch.from_numpy(np.array(frame))[None].float() / 255, *size)[0].permute(2, 0, 1) * 2 - 1
        for frame in islice(read_frames(file), 0, None, every)
    )
    return islice(chain(shown, repeat(-torch.ones_like(job.picture))), job.clips * job.clip_frames)


def _receipt(
    job: _Job, prompt: str, memory: Memory, ahead: Preflight, notes: Mapping[str, str]
) -> dict[str, Any]:
    """What is known before the first clip."""
    receipt = make_receipt(
        job.request,
        job.report,
        job.plan,
        job.model,
        job.given,
        notes,
        prompt=prompt,
        dtype=str(compute_dtype(job.model.precision, memory.device)).removeprefix("torch."),
        device=str(memory.device),
        latents_sha256="",
        memory=ahead.as_dict(),
        choices=FloatChoices(),  # its blocks are not the ones that have others
    )
    del receipt["latents_sha256"]
    if job.pose is not None:
        receipt["inputs"] |= {"pose_video": {"name": job.pose.name, "sha256": file_hash(job.pose)}}
    receipt["clips"] = {"count": job.clips, "frames": job.clip_frames}
    return receipt


def _all_of(hashes: list[str]) -> str:
    """One hash for the latents of all clips."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


class _OnlyChecks(Silent):
    """For the encoder: the stages that are shown are those of the clips. A stop is a stop."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def check(self) -> None:
        self._progress.check()
