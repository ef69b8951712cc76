"""Runs a speech-to-video request on this machine: sound, image and prompt become a video with its sound."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..device.memory import Memory
from ..errors import ModelError, RequestError, SamplingError
from ..loading.wan_model import WanModel
from ..networks.s2v_features import frame_features
from ..networks.s2v_network_kind import SPEECH_EXPERT
from ..networks.wav2vec import SAMPLE_RATE, audio_encoder_bytes, audio_hidden_states
from ..plan.plan import Plan
from ..progress import OnlyChecks
from ..request.report import Finding
from ..sampling.engine import Prompts
from ..sampling.schedule import Sampling
from ..sampling.step_fingerprints import STEP_FINGERPRINTS, StepFingerprints
from ..streaming.executor import Executor
from ..video.audio import Audio, mono_at
from ..video.encode_video import encode_video
from ..video.frame_hash import FRAMES_SHA256, PENDING, FrameHash
from ..video.frame_stream import Frame, FrameStream, tee
from ..video.frames import video_frames
from ..video.hdr import hdr_note, require_readable
from ..video.image_tensor import fit
from ..video.local_file import file_at
from ..video.output import reserved_output, write_sidecar
from ..video.probe import probe, verify
from ..video.read import read_frames
from ..video.read_image import read_image
from ..video.tags import RECEIPT
from ..weights.footprint import weight_bytes
from ..weights.recipe import Recipe
from .kept_latents import Sampled
from .local_receipt import Recorded, differences, make_receipt
from .media_inputs import MediaInputs
from .memory_estimate import MemoryEstimate, Stage, estimate_memory, sampling_bytes
from .planned_video import wish_of_plan
from .prepared_run import Run
from .prompt import expanded_prompt, helpers_record, own_conditions
from .render import checked_frames
from .result import Result, StageTimer
from .safety import result_check
from .sampling_key import sampling_key
from .speech_clips import ClipSampling, SpeechInputs, speech_frames

__all__ = ["POSE_VIDEO", "SPEECH", "estimate_speech_memory", "help_speech", "make_speech"]

log = logging.getLogger(__name__)

SPEECH = "speech-to-video"  # the task
POSE_VIDEO = "pose_video"  # in the inputs of a receipt


@dataclass(frozen=True)
class _Speech:
    """A run with its inputs for speech.

    sound: as long as the video.
    pose:  a video whose frames guide the body.
    """

    run: Run
    audio_encoder: Recipe
    sound: Audio
    image: Tensor
    pose: Path | None

    @property
    def clip_frames(self) -> int:
        return 4 * self.run.plan.latent_shape[1]

    @property
    def clips(self) -> int:
        return -(-self.run.plan.frames_delivered // self.clip_frames)


@dataclass(frozen=True)
class _Heard:
    """The prompt and the sound of a run, encoded only where a clip is sampled."""

    prompt: str
    notes: tuple[Finding, ...]
    prompts: Prompts | None = None
    features: Tensor | None = None


def make_speech(run: Run, pose_video: Path | None = None, expected: Recorded | None = None) -> Result:
    """Generate the video of a run with its sound, and write its receipt beside it.

    pose_video: a video whose frames guide the body. They are resized and cropped like the image. After its
                last frame, the body is free.
    expected:   the receipt of the run that is repeated, if any.

    The receipt inside the file is written before the first clip is sampled. It lacks the hash of the latents
    and the timings, which the receipt beside the file has. Raises the same errors as `local_run.run`.
    """
    steps = StepFingerprints(run.progress)
    run = replace(run, progress=steps)
    speech, plan, timer = _with_inputs(run, pose_video), run.plan, StageTimer.of(run.devices)
    log.info("in clips of %d frames: %d", speech.clip_frames, speech.clips)
    key = _key(speech)
    known = _known_clips(speech, key)
    hashes: list[str] = []
    with reserved_output(run.out) as staged:
        if len(known) == speech.clips:
            log.info("the latents of an earlier run are used again: this run only decodes and encodes")
            heard = _Heard(_checked_prompt(run, known), known[0].notes)
            run.say(heard.notes)
        else:
            heard = _heard(speech, known, timer)
        receipt = _receipt(speech, heard, len(known)) | helpers_record(run)
        known_receipt = json.dumps({**receipt, FRAMES_SHA256: PENDING})
        inside = {**run.tags, RECEIPT: known_receipt} if run.embed_receipt else dict(run.tags)
        kept: list[Frame] = []
        frame_hash = FrameHash() if expected is None else FrameHash(expected.require_frames)
        with timer.stage("video"):
            frames = checked_frames(
                _frames(speech, heard, key, known, hashes, expected),
                result_check(run.checker, run.request),
            )
            facts = encode_video(
                tee(frames, kept) if run.return_images else frames,
                staged,
                width=plan.width,
                height=plan.height,
                fps=Fraction(plan.fps),
                frame_count=plan.frames_delivered,
                quality=plan.video_quality,
                write_mode=plan.video_write_mode,
                tags=inside,
                audio=speech.sound,
                progress=OnlyChecks(run.progress),
                frame_hash=frame_hash,
                wish=wish_of_plan(plan),
            )
            verify(probe(staged), frames=facts.frames, width=plan.width, height=plan.height, fps=facts.fps)
        receipt |= {
            "latents_sha256": _all_of(hashes),
            **({} if known else {STEP_FINGERPRINTS: steps.taken}),  # those of kept clips are not known
            FRAMES_SHA256: frame_hash.sha256,
            **timer.record(),
        }
        write_sidecar(staged, receipt)
    images = torch.from_numpy(np.stack(kept)).float() / 255 if run.return_images else None
    return Result(run.out, plan.seed, heard.prompt, receipt, images)


def help_speech(run: Run, pose_video: Path | None = None) -> None:
    """Compute the part of a rank other than 0, which writes nothing.

    Each clip starts from the last frames of the one before, so they are decoded here too.
    """
    speech = _with_inputs(run, pose_video)
    deque(_frames(speech, _heard(speech, {}, StageTimer()), None, {}, [], None), maxlen=0)


def estimate_speech_memory(
    model: WanModel, plan: Plan, inputs: MediaInputs, memory: Memory
) -> MemoryEstimate:
    """Estimate the memory of a speech run: with the tokens of image and motion, and with the audio encoder.

    Raises ModelError when the model has no audio encoder, or when it cannot compute as requested.
    """
    if model.preferences.attention not in (None, "sdpa") or model.preferences.compiler is not None:
        raise ModelError("attention, compile: the speech model supports neither option; leave both out")
    audio_encoder, sound = _audio_encoder(model), _sound(inputs, plan)
    estimate = estimate_memory(model, memory, _token_shape(plan), plan.experts, kind=SPEECH_EXPERT)
    samples = round(sound.samples.shape[1] / sound.rate * SAMPLE_RATE)
    weights = weight_bytes(audio_encoder, lambda _: torch.float32)
    encoding = Stage(
        "audio encoder", weights, 0, audio_encoder_bytes(audio_encoder.config, samples), "float32"
    )
    return replace(estimate, stages=(encoding, *estimate.stages))


def _with_inputs(run: Run, pose_video: Path | None) -> _Speech:
    """Raise MediaError when the image or the pose video cannot be read."""
    image = read_image(run.inputs.files["image_url"].content)
    if pose_video is not None:
        pose = probe(pose_video)  # before any work: MediaError when it cannot be read
        require_readable(pose.colour, pose_video.name)
        if note := hdr_note(pose.colour):
            run.say([Finding("pose_video", "warning", pose_video.name, None, note)])
    fitted = fit(image[None], run.plan.width, run.plan.height)[0].permute(2, 0, 1) * 2 - 1
    return _Speech(run, _audio_encoder(run.own_model), _sound(run.inputs, run.plan), fitted, pose_video)


def _audio_encoder(model: WanModel) -> Recipe:
    if model.audio_encoder is None:
        raise ModelError(f"{model.name}: has no audio encoder; load one together with the model")
    return model.audio_encoder


def _sound(inputs: MediaInputs, plan: Plan) -> Audio:
    """Return the sound, cut to the length of the video."""
    if inputs.sound is None:
        raise RequestError.of("audio_url", "not given", "give a file with sound")
    sound = inputs.sound
    if round(sound.samples.shape[1] / sound.rate * plan.fps) <= plan.frames_delivered:
        return sound
    heard = round(plan.frames_delivered / plan.fps * sound.rate)
    return Audio(sound.samples[:, :heard], sound.rate)


def _token_shape(plan: Plan) -> tuple[int, int, int, int]:
    """Return a latent shape with as many tokens: the image adds one frame, the motion one and a half."""
    channels, frames, rows, columns = plan.latent_shape
    return channels, frames + 3, rows, columns


def _audio_features(speech: _Speech) -> Tensor:
    """Encode the sound. Returns (1, states, D, clips x clip_frames), in float32 as in the official code."""
    run = speech.run
    run.progress.begin("sound", 1, "sounds")
    samples = mono_at(speech.sound, SAMPLE_RATE)
    states = audio_hidden_states(speech.audio_encoder, samples, torch.float32, run.memory, run.progress.check)
    if not bool(torch.isfinite(states).all()):
        raise SamplingError(
            "the audio encoder returned NaN or Inf; its file may be damaged, so download it again"
        )
    run.progress.advance(1)
    return frame_features(states, run.plan.fps, speech.clips * speech.clip_frames)


def _frames(
    speech: _Speech,
    heard: _Heard,
    key: str | None,
    known: Mapping[int, Sampled],
    hashes: list[str],
    expected: Recorded | None,
) -> FrameStream:
    """Yield the frames of all clips. Raises SamplingError at the end if latents differ from `expected`."""
    run, plan = speech.run, speech.run.plan

    def keep(clip: int, latents: Tensor) -> None:
        if run.kept is not None and key is not None:
            run.kept.keep(_clip_key(key, clip), Sampled(latents, heard.prompt, heard.notes))

    inputs = SpeechInputs(
        model=run.own_model,
        memory=run.memory,
        progress=run.progress,
        frames=plan.frames_delivered,
        clip_frames=speech.clip_frames,
        latent_shape=(1, *plan.latent_shape),
        image=speech.image,
        sampling=_sampling(speech, heard),
        known={clip: sampled.latents for clip, sampled in known.items()},
        on_sampled=keep,
    )
    yield from video_frames(speech_frames(inputs, hashes))
    if expected is not None and _all_of(hashes) != expected.latents_sha256:
        raise SamplingError(f"the latents are not those of the receipt: {differences(expected)}")


def _sampling(speech: _Speech, heard: _Heard) -> ClipSampling | None:
    if heard.prompts is None or heard.features is None:
        return None
    run, plan = speech.run, speech.run.plan
    recipe = run.own_model.experts_on(run.memory.device)["high"]
    sampling, pair = Sampling.of_plan(plan), None if run.ranks is None else run.ranks.pair
    assert run.estimate.residency is not None  # noqa: S101 - it is decided where there are steps
    speaker = Executor(
        {"high": recipe},
        run.dtype,
        run.memory,
        run.progress.check,
        sampling_bytes(recipe, _token_shape(plan), run.dtype),
        residency=run.estimate.residency,
        forwards=sampling.forwards if pair is None else sampling.forwards[::2],
        kind=SPEECH_EXPERT,
        ranks=None if run.ranks is None else run.ranks.sequence,
    )
    pose = None if speech.pose is None else _poses(speech, speech.pose)
    return ClipSampling(speaker, sampling, plan.seed, heard.prompts, heard.features, pose, run.ranks)


def _poses(speech: _Speech, file: Path) -> Iterator[Tensor]:
    """Frames at about the rate of the video, (3, H, W) in [-1, 1]; black after the last one."""
    plan = speech.run.plan
    every = max(1, round(probe(file).fps / plan.fps))
    shown = (
        fit(torch.from_numpy(np.array(frame))[None].float() / 255, plan.width, plan.height)[0].permute(
            2, 0, 1
        )
        * 2
        - 1
        for frame in islice(read_frames(file), 0, None, every)
    )
    black = repeat(-torch.ones_like(speech.image))
    return islice(chain(shown, black), speech.clips * speech.clip_frames)


def _receipt(speech: _Speech, heard: _Heard, known: int) -> dict[str, Any]:
    """Return the part of the receipt that is known before the first clip. known: clips of an earlier run."""
    receipt = make_receipt(speech.run, heard.notes, prompt=heard.prompt, latents_sha256="")
    del receipt["latents_sha256"]
    if speech.pose is not None:
        receipt["inputs"] |= {POSE_VIDEO: file_at(speech.pose, POSE_VIDEO).as_dict()}
    receipt["clips"] = {"count": speech.clips, "frames": speech.clip_frames}
    if known:
        receipt["clips"]["reused"] = known
    if known == speech.clips:
        receipt["latents_reused"] = True
    return receipt


def _key(speech: _Speech) -> str | None:
    """Return the key of all clips together; None if nothing can be kept, or only a part of the clips."""
    kept = speech.run.kept
    if kept is None:
        return None
    size = speech.clips * 4 * math.prod(speech.run.plan.latent_shape)
    if size > kept.limit_bytes:
        log.info("latents of %d MiB are not kept: the limit is %d", size >> 20, kept.limit_bytes >> 20)
        return None
    return sampling_key(speech.run, speech.pose)


def _clip_key(key: str, clip: int) -> str:
    return f"{key}-{clip}"


def _known_clips(speech: _Speech, key: str | None) -> dict[int, Sampled]:
    """Return {clip: what an earlier run sampled}. A run that was stopped left its finished clips."""
    kept = speech.run.kept
    if kept is None or key is None:
        return {}
    found = ((clip, kept.find(_clip_key(key, clip))) for clip in range(speech.clips))
    return {clip: sampled for clip, sampled in found if sampled is not None}


def _heard(speech: _Speech, known: Mapping[int, Sampled], timer: StageTimer) -> _Heard:
    """Encode prompt and sound."""
    with timer.stage("prompt"):
        prompt = _checked_prompt(speech.run, known)
    with timer.stage("text"):
        prompts, notes = own_conditions(speech.run, prompt)
    with timer.stage("sound"):
        return _Heard(prompt, notes, prompts, _audio_features(speech))


def _checked_prompt(run: Run, known: Mapping[int, Sampled]) -> str:
    """Return the prompt to use: that of the known clips, else as `expanded_prompt`. Checks it either way."""
    earlier = next((sampled.prompt for sampled in known.values()), run.prompt)
    return expanded_prompt(replace(run, prompt=earlier))


def _all_of(hashes: list[str]) -> str:
    """Return one hash over the latents of all clips."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
