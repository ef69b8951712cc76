"""Runs a speech-to-video request on this machine: sound, image and prompt become a video with its sound."""

from __future__ import annotations

import hashlib
import json
import logging
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
from ..networks.wav2vec import SAMPLE_RATE, hear, hearing_bytes
from ..plan.plan import Plan
from ..plan.sigmas import forwards_of
from ..progress import Progress, Silent
from ..sampling.engine import Prompts
from ..sampling.schedule import Schedule
from ..streaming.executor import Executor
from ..video.audio import Audio, mono_at
from ..video.encode_video import encode_video
from ..video.frames import Frame, FrameStream, video_frames
from ..video.output import output_place, write_sidecar
from ..video.picture import fit, read_picture
from ..video.probe import probe, verify
from ..video.read import read_frames
from ..video.tags import RECEIPT
from ..weights.footprint import weight_bytes
from ..weights.hashing import file_hash
from ..weights.recipe import Recipe
from .decided import Run
from .local_receipt import Recorded, differences, make_receipt
from .media_inputs import Given
from .preflight import Preflight, Stage, look_ahead, sampling_bytes
from .prompt import drawn_prompt, helpers_record, read_prompts
from .render import seen, tee
from .result import Clock, Result
from .safety import look_at_result
from .speech_clips import Script, speaking_frames

__all__ = ["SPEECH", "look_ahead_to_speech", "make_speech"]

log = logging.getLogger(__name__)

SPEECH = "speech-to-video"  # the task


@dataclass(frozen=True)
class _Speech:
    """A run with what only speech has.

    sound: as long as the video.
    pose:  a video whose frames lead the body.
    """

    run: Run
    ears: Recipe
    sound: Audio
    picture: Tensor
    pose: Path | None

    @property
    def clip_frames(self) -> int:
        return 4 * self.run.plan.latent_shape[1]

    @property
    def clips(self) -> int:
        return -(-self.run.plan.frames_delivered // self.clip_frames)


def make_speech(run: Run, pose_video: Path | None = None, expected: Recorded | None = None) -> Result:
    """Make the video of a run with its sound, and its receipt beside it.

    pose_video: whose frames lead the body; resized and cropped like the image. Where it ends, so does that.
    expected:   of a run that is repeated.

    The receipt inside the file is written before the first clip is sampled: it lacks the hash of the latents
    and the timings that the one beside it has. Raises what `local.run` says.
    """
    speech, plan, clock = _with_inputs(run, pose_video), run.plan, Clock()
    log.info("in clips of %d frames: %d", speech.clip_frames, speech.clips)
    hashes: list[str] = []
    with output_place(run.out):
        with clock.stage("prompt"):
            prompt = drawn_prompt(run)
        with clock.stage("text"):
            prompts, notes = read_prompts(run, prompt)
        with clock.stage("sound"):
            features = _heard(speech)
        receipt = _receipt(speech, prompt, notes) | helpers_record(run)
        inside = {**run.tags, RECEIPT: json.dumps(receipt)} if run.embed_receipt else dict(run.tags)
        kept: list[Frame] = []
        with clock.stage("video"):
            frames = seen(
                _frames(speech, prompts, features, hashes, expected),
                look_at_result(run.checker, run.request),
            )
            facts = encode_video(
                tee(frames, kept) if run.return_images else frames,
                run.out,
                width=plan.width,
                height=plan.height,
                fps=Fraction(plan.fps),
                frame_count=plan.frames_delivered,
                quality=plan.video_quality,
                write_mode=plan.video_write_mode,
                tags=inside,
                audio=speech.sound,
                progress=_OnlyChecks(run.progress),
            )
            verify(probe(run.out), frames=facts.frames, width=plan.width, height=plan.height, fps=facts.fps)
        receipt |= {"latents_sha256": _all_of(hashes), "timings_s": clock.seconds}
        write_sidecar(run.out, receipt)
    images = torch.from_numpy(np.stack(kept)).float() / 255 if run.return_images else None
    return Result(run.out, plan.seed, prompt, receipt, images)


def look_ahead_to_speech(model: WanModel, plan: Plan, given: Given, memory: Memory) -> Preflight:
    """What the other runs need, with the tokens of image and motion, and the audio encoder.

    Raises ModelError for a model that cannot hear, or is told to compute as it cannot.
    """
    if model.preferences.attention not in (None, "sdpa") or model.preferences.compiler is not None:
        raise ModelError("attention, compile: the speech model has no choice of either; leave them alone")
    ears, sound = _ears(model), _sound(given, plan)
    ahead = look_ahead(model, memory, _token_shape(plan), plan.experts, kind=SPEECH_EXPERT)
    samples = round(sound.samples.shape[1] / sound.rate * SAMPLE_RATE)
    weights = weight_bytes(ears, lambda _: torch.float32)
    hearing = Stage("audio encoder", weights, 0, hearing_bytes(ears.config, samples), "float32")
    return replace(ahead, stages=(hearing, *ahead.stages))


def _with_inputs(run: Run, pose_video: Path | None) -> _Speech:
    """MediaError for a picture or a pose that cannot be read."""
    picture = read_picture(run.given.files["image_url"].content)
    if pose_video is not None:
        probe(pose_video)  # before any work: MediaError when it cannot be read
    fitted = fit(picture[None], run.plan.width, run.plan.height)[0].permute(2, 0, 1) * 2 - 1
    return _Speech(run, _ears(run.model), _sound(run.given, run.plan), fitted, pose_video)


def _ears(model: WanModel) -> Recipe:
    if model.audio_encoder is None:
        raise ModelError(f"{model.name}: has no audio encoder; load one with the model")
    return model.audio_encoder


def _sound(given: Given, plan: Plan) -> Audio:
    """To the end of the last frame, where the video ends before it; else whole."""
    if given.sound is None:
        raise RequestError.of("audio_url", "not given", "give a file that is heard")
    sound = given.sound
    if round(sound.samples.shape[1] / sound.rate * plan.fps) <= plan.frames_delivered:
        return sound
    heard = round(plan.frames_delivered / plan.fps * sound.rate)
    return Audio(sound.samples[:, :heard], sound.rate)


def _token_shape(plan: Plan) -> tuple[int, int, int, int]:
    """Latents with as many tokens: the image is one frame more, the motion is packed into one and a half."""
    channels, frames, rows, columns = plan.latent_shape
    return channels, frames + 3, rows, columns


def _heard(speech: _Speech) -> Tensor:
    """(1, states, D, clips x clip_frames). In float32, as the official code hears."""
    run = speech.run
    run.progress.begin("sound", 1, "sounds")
    samples = mono_at(speech.sound, SAMPLE_RATE)
    states = hear(speech.ears, samples, torch.float32, run.memory, run.progress.check)
    if not bool(torch.isfinite(states).all()):
        raise SamplingError("the audio encoder gave numbers that are not finite; its file may be damaged")
    run.progress.advance(1)
    return frame_features(states, run.plan.fps, speech.clips * speech.clip_frames)


def _frames(
    speech: _Speech, prompts: Prompts, features: Tensor, hashes: list[str], expected: Recorded | None
) -> FrameStream:
    """The frames of all clips. Raises SamplingError at the end when they are not those of `expected`."""
    run, plan = speech.run, speech.run.plan
    script = Script(
        frames=plan.frames_delivered,
        clip_frames=speech.clip_frames,
        latent_shape=(1, *plan.latent_shape),
        schedule=Schedule.of_plan(plan),
        solver=plan.solver,
        guidance=plan.guidance,
        seed=plan.seed,
        prompts=prompts,
        features=features,
        picture=speech.picture,
        pose=None if speech.pose is None else _poses(speech, speech.pose),
    )
    recipe = run.model.experts["high"]
    speaker = Executor(
        {"high": recipe},
        run.dtype,
        run.memory,
        run.progress.check,
        sampling_bytes(recipe, _token_shape(plan), run.dtype),
        forwards=forwards_of(script.schedule.experts, script.guidance),
        residency=run.ahead.residency,
        kind=SPEECH_EXPERT,
    )
    yield from video_frames(speaking_frames(script, run.model, speaker, run.memory, run.progress, hashes))
    if expected is not None and _all_of(hashes) != expected.latents_sha256:
        raise SamplingError(f"the latents are not those of the receipt; {differences(expected)}")


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
    black = repeat(-torch.ones_like(speech.picture))
    return islice(chain(shown, black), speech.clips * speech.clip_frames)


def _receipt(speech: _Speech, prompt: str, notes: Mapping[str, str]) -> dict[str, Any]:
    """What is known before the first clip."""
    receipt = make_receipt(speech.run, notes, prompt=prompt, latents_sha256="")
    del receipt["latents_sha256"]
    if speech.pose is not None:
        receipt["inputs"] |= {"pose_video": {"name": speech.pose.name, "sha256": file_hash(speech.pose)}}
    receipt["clips"] = {"count": speech.clips, "frames": speech.clip_frames}
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
