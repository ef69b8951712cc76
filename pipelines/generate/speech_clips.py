"""The clips of a speaking person, one after the other, each from the end of the one before.

After `WanS2V.generate` of Wan-Video/Wan2.2 wan/speech2video.py. Frames come out while later clips are yet to
be sampled, and only the last MOTION_FRAMES of them are kept, so that a long video takes no more memory than
a short one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..loading.wan_model import WanModel
from ..networks.s2v_motion import MOTION_FRAMES
from ..networks.s2v_network_kind import ClipCondition
from ..progress import Progress
from ..request import SEED_MAX
from ..sampling.engine import Prompts
from ..sampling.loop import denoise
from ..sampling.noise import draw_noise
from ..sampling.schedule import Schedule
from ..sampling.solvers import SOLVERS
from ..streaming.executor import Executor
from ..vae.decode import stream_decode
from ..vae.encode import stream_encode
from ..vae.latent_space import denormalise, normalise, vae_of
from ..vae.tile_size import choose_tiling, vae_bytes
from ..vae.tiles import Tiling
from ..video.frames import close
from ..weights.footprint import weight_bytes
from .local_receipt import latents_hash
from .preflight import decode_bytes, decode_tiling, picture_size

__all__ = ["SETTLING_FRAMES", "Script", "speaking_frames"]

log = logging.getLogger(__name__)

# Of the first clip, until it has left the image: `image[:, :, 3:]` of the official code.
SETTLING_FRAMES = 3


@dataclass(frozen=True)
class Script:
    """All that the clips of one video are made after.

    frames:       of the whole video.
    clip_frames:  of each clip; a multiple of 4. The last one is cut where the video ends.
    latent_shape: of a clip, (1, C, clip_frames / 4, h, w).
    schedule, solver, guidance: of every clip. seed: of the first; each later clip has the next one.
    prompts:      embeddings of the prompt and, for guidance, of the negative prompt.
    features:     (1, states, D, clips x clip_frames), float32, CPU.
    picture:      (3, H, W) in [-1, 1]: who speaks.
    pose:         frames (3, H, W) in [-1, 1], one for each of the video and of the rest of its last clip;
                  None where no pose was given.
    """

    frames: int
    clip_frames: int
    latent_shape: tuple[int, ...]
    schedule: Schedule
    solver: str
    guidance: Mapping[str, float]
    seed: int
    prompts: Prompts = field(repr=False)
    features: Tensor = field(repr=False)
    picture: Tensor = field(repr=False)
    pose: Iterable[Tensor] | None = field(default=None, repr=False)

    @property
    def clips(self) -> int:
        return -(-self.frames // self.clip_frames)


def speaking_frames(
    script: Script, model: WanModel, speaker: Executor, memory: Memory, progress: Progress, hashes: list[str]
) -> Iterator[Tensor]:
    """Every frame of the video, (3, H, W) in [-1, 1], CPU. `hashes` gets one of the latents of each clip.

    The SETTLING_FRAMES that the first clip needs to leave the image are not shown. The frame after them
    stands in their place, so that what is seen stays with what is heard.

    Raises SamplingError, ModelError and MediaError as the stages do, and what `progress.check` raises.
    """
    poses = None if script.pose is None else iter(script.pose)
    recent = deque([torch.zeros_like(script.picture)] * MOTION_FRAMES, MOTION_FRAMES)
    motion: Tensor | None = None
    with _vae(script, model, memory, progress) as vae:
        reference = _encoded(vae, [script.picture], script, model, memory)
    for clip in range(script.clips):
        log.info("clip %d of %d", clip + 1, script.clips)
        pose = None
        if poses is not None:
            with _vae(script, model, memory, progress) as vae:
                led = _led(islice(poses, script.clip_frames))
                pose = _encoded(vae, led, script, model, memory)[:, :, 1:]
        latents = _sampled(script, clip, reference, motion, pose, speaker, memory, progress)
        hashes.append(latents_hash(latents))
        wanted = min(script.clip_frames, script.frames - clip * script.clip_frames)
        with _vae(script, model, memory, progress) as vae:
            before = reference if motion is None else motion
            decoded = _decoded(vae, before, latents, max(wanted, SETTLING_FRAMES + 1), script, model, memory)
            progress.begin("decoding", wanted, "frames")
            given = 0
            try:
                for index, frame in enumerate(decoded):
                    progress.check()
                    if clip == 0 and index < SETTLING_FRAMES:
                        continue
                    recent.append(frame)
                    shown = SETTLING_FRAMES + 1 if clip == 0 and index == SETTLING_FRAMES else 1
                    for _ in range(min(shown, wanted - given)):
                        yield frame
                        given += 1
                    progress.advance(given)
            finally:
                close(decoded)
            if clip + 1 < script.clips:
                motion = _encoded(vae, recent, script, model, memory)


@torch.inference_mode()
def _sampled(
    script: Script,
    clip: int,
    reference: Tensor,
    motion: Tensor | None,
    pose: Tensor | None,
    speaker: Executor,
    memory: Memory,
    progress: Progress,
) -> Tensor:
    """Latents of a clip, normalised, float32, CPU. Without the prompt's guidance there is no sound either."""
    progress.check()
    sound = script.features[..., clip * script.clip_frames : (clip + 1) * script.clip_frames]
    device, given = memory.device, script.prompts

    def condition(text: Tensor, sound: Tensor) -> ClipCondition:
        clip = ClipCondition(text=text, audio=sound, reference=reference, motion=motion, pose=pose)
        return clip.on(device, torch.float32)

    prompts = Prompts(
        condition(given.positive.text, sound),
        None if given.negative is None else condition(given.negative.text, torch.zeros_like(sound)),
    )
    noise = draw_noise(script.latent_shape, (script.seed + clip) % (SEED_MAX + 1)).to(device)
    solver = SOLVERS[script.solver](script.schedule.sigmas)
    with speaker:
        made = denoise(noise, script.schedule, solver, speaker, prompts, dict(script.guidance), progress)
    return made.cpu()


@contextmanager
def _vae(script: Script, model: WanModel, memory: Memory, progress: Progress) -> Iterator[AutoencoderKLWan]:
    """The VAE, with room for both directions; gone when this ends."""
    dtype = compute_dtype(model.precision, memory, "vae")
    ways = (
        decode_bytes(model, script.latent_shape, dtype, decode_tiling(model, script.latent_shape, memory)),
        _encoding_bytes(script, model, dtype, _encode_tiling(script, model, memory)),
    )
    try:
        yield vae_of(model, dtype, memory, progress.check, max(ways))
    finally:
        memory.release()


@torch.inference_mode()
def _encoded(
    vae: AutoencoderKLWan, frames: Iterable[Tensor], script: Script, model: WanModel, memory: Memory
) -> Tensor:
    """(1, C, T, h, w), normalised, float32, CPU, of 4 T - 3 frames."""
    latents = stream_encode(vae, iter(frames), tiling=_encode_tiling(script, model, memory))
    return normalise(torch.stack([latent.float().cpu() for latent in latents], 1)[None], model.vae)


def _decoded(
    vae: AutoencoderKLWan,
    before: Tensor,
    latents: Tensor,
    frames: int,
    script: Script,
    model: WanModel,
    memory: Memory,
) -> Iterator[Tensor]:
    """The first `frames` of `latents` on the CPU, decoded as the continuation of `before`."""
    hidden = 4 * before.shape[2] - 3
    whole = denormalise(torch.cat([before, latents], dim=2), model.vae)
    tiling = decode_tiling(model, script.latent_shape, memory)
    decoded = stream_decode(vae, whole, frames=hidden + frames, tiling=tiling)
    try:
        for frame in islice(decoded, hidden, None):
            yield frame.cpu()
    finally:
        close(decoded)


def _led(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """The first frame once more in front: its latent frame is left out after encoding."""
    frames = iter(frames)
    first = next(frames)
    return chain((first, first), frames)


def _encode_tiling(script: Script, model: WanModel, memory: Memory) -> Tiling | None:
    dtype, free = compute_dtype(model.precision, memory, "vae"), memory.free_bytes()
    room = None if free is None else max(free - weight_bytes(model.vae, lambda _: dtype), 0)
    size, spill = picture_size(model, script.latent_shape), memory.device.type != "cpu"
    return choose_tiling(room, model.vae.config, "encode", *size, dtype.itemsize, can_spill=spill)


def _encoding_bytes(script: Script, model: WanModel, dtype: torch.dtype, tiling: Tiling | None) -> int:
    size = picture_size(model, script.latent_shape)
    return vae_bytes(model.vae.config, "encode", *size, dtype.itemsize, tiling)
