"""Generates the clips of a speech video one after another. Each continues the end of the one before.

Follows `WanS2V.generate` in wan/speech2video.py of Wan-Video/Wan2.2. Yields frames before later clips are
sampled and keeps only the last MOTION_FRAMES of them, so that the length of the video needs no memory.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..loading.wan_model import WanModel
from ..networks.s2v_motion import MOTION_FRAMES
from ..networks.s2v_network_kind import ClipCondition
from ..parallel.gpu_world import GpuRanks
from ..parallel.guidance_pair import guidance_pair
from ..progress import Progress
from ..request import SEED_MAX
from ..sampling.engine import Prompts
from ..sampling.loop import denoise
from ..sampling.noise import initial_noise, noise_sampler
from ..sampling.schedule import Sampling
from ..sampling.solvers import new_solver
from ..streaming.executor import Executor
from ..vae.decode import stream_decode
from ..vae.encode import stream_encode
from ..vae.latent_space import denormalise, load_model_vae, normalise
from ..vae.tile_size import Way
from ..video.frame_stream import close
from .local_receipt import latents_hash
from .memory_estimate import vae_tiling, vae_working_bytes

if TYPE_CHECKING:
    from ..vae.own_vae import OwnVae

__all__ = ["SETTLING_FRAMES", "ClipSampling", "SpeechInputs", "speech_frames"]

log = logging.getLogger(__name__)

# The first frames of the first clip still resemble the image: `image[:, :, 3:]` of the official code.
SETTLING_FRAMES = 3


@dataclass(frozen=True)
class ClipSampling:
    """What the clips of one video are sampled from.

    speaker:  the expert, which is loaded for each clip.
    sampling: the same for every clip.
    seed:     of the first clip. Each later clip uses the next number.
    prompts:  embeddings of the prompt and, for guidance, of the negative prompt.
    features: the encoded sound (1, states, D, clips x clip_frames), float32, on the CPU.
    pose:     a frame (3, H, W) in [-1, 1] for each frame of all clips; None without a pose video.
    ranks:    share the work, with the same `sequence` as the executor. None for one device.
    """

    speaker: Executor
    sampling: Sampling
    seed: int
    prompts: Prompts = field(repr=False)
    features: Tensor = field(repr=False)
    pose: Iterable[Tensor] | None = field(default=None, repr=False)
    ranks: GpuRanks | None = None


@dataclass(frozen=True)
class SpeechInputs:
    """Everything that all clips of one video share.

    frames:       number of frames of the video.
    clip_frames:  number of frames of a clip, a multiple of 4. The last clip is cut at the end of the video.
    latent_shape: of a clip, (1, C, clip_frames / 4, h, w).
    image:        the speaker, (3, H, W) in [-1, 1].
    sampling:     None when the latents of all clips are known.
    known:        {clip: its latents, as sampled in an earlier run}.
    on_sampled:   called with the number and the latents of each clip that is sampled.
    """

    model: WanModel
    memory: Memory
    progress: Progress
    frames: int
    clip_frames: int
    latent_shape: tuple[int, ...]
    image: Tensor = field(repr=False)
    sampling: ClipSampling | None
    known: Mapping[int, Tensor] = field(default_factory=dict, repr=False)
    on_sampled: Callable[[int, Tensor], object] = lambda _clip, _latents: None

    @property
    def clips(self) -> int:
        return -(-self.frames // self.clip_frames)


def speech_frames(inputs: SpeechInputs, hashes: list[str]) -> Iterator[Tensor]:
    """Yield every frame of the video, (3, H, W) in [-1, 1], on the CPU.

    hashes: the hash of the latents of each clip is appended to it.

    Replaces the first SETTLING_FRAMES of the first clip by the frame after them, so that image and sound stay
    synchronous.

    Raises SamplingError, ModelError and MediaError as the stages do, and whatever `progress.check` raises.
    """
    sampling = inputs.sampling
    poses = None if sampling is None or sampling.pose is None else iter(sampling.pose)
    recent = deque([torch.zeros_like(inputs.image)] * MOTION_FRAMES, MOTION_FRAMES)
    motion: Tensor | None = None
    with _vae(inputs) as vae:
        reference = _encoded(vae, [inputs.image], inputs)
    for clip in range(inputs.clips):
        log.info("clip %d of %d", clip + 1, inputs.clips)
        posed = None if poses is None else islice(poses, inputs.clip_frames)
        latents = inputs.known.get(clip)
        if latents is None:
            latents = _sampled(inputs, clip, reference, motion, _pose(inputs, posed))
            inputs.on_sampled(clip, latents)
        deque(posed or (), maxlen=0)  # those of a known clip are passed over
        hashes.append(latents_hash(latents))
        wanted = min(inputs.clip_frames, inputs.frames - clip * inputs.clip_frames)
        with _vae(inputs) as vae:
            before = reference if motion is None else motion
            decoded = _decoded(vae, before, latents, max(wanted, SETTLING_FRAMES + 1), inputs)
            inputs.progress.begin("decoding", wanted, "frames")
            given = 0
            try:
                for index, frame in enumerate(decoded):
                    inputs.progress.check()
                    if clip == 0 and index < SETTLING_FRAMES:
                        continue
                    recent.append(frame)
                    shown = SETTLING_FRAMES + 1 if clip == 0 and index == SETTLING_FRAMES else 1
                    for _ in range(min(shown, wanted - given)):
                        yield frame
                        given += 1
                    inputs.progress.advance(given)
            finally:
                close(decoded)
            if clip + 1 < inputs.clips:
                motion = _encoded(vae, recent, inputs)


def _pose(inputs: SpeechInputs, frames: Iterator[Tensor] | None) -> Tensor | None:
    """Encode the poses of one clip."""
    if frames is None:
        return None
    first = next(frames)
    with _vae(inputs) as vae:
        # The first frame twice: its latent frame, which stands for one frame alone, is dropped.
        return _encoded(vae, chain((first, first), frames), inputs)[:, :, 1:]


@torch.inference_mode()
def _sampled(
    inputs: SpeechInputs, clip: int, reference: Tensor, motion: Tensor | None, pose: Tensor | None
) -> Tensor:
    """Sample a clip. Returns normalised latents, float32, on the CPU. The unconditional pass has no sound."""
    inputs.progress.check()
    given = inputs.sampling
    assert given is not None  # noqa: S101 - a clip is missing
    sound = given.features[..., clip * inputs.clip_frames : (clip + 1) * inputs.clip_frames]
    device, texts = inputs.memory.device, given.prompts

    def condition(text: Tensor, sound: Tensor) -> ClipCondition:
        clip = ClipCondition(text=text, audio=sound, reference=reference, motion=motion, pose=pose)
        return clip.on(device, torch.float32)

    prompts = Prompts(
        condition(texts.positive.text, sound),
        None if texts.negative is None else condition(texts.negative.text, torch.zeros_like(sound)),
    )
    seed = (given.seed + clip) % (SEED_MAX + 1)
    ranks = given.ranks
    if ranks is not None:
        prompts = ranks.from_first(prompts)
    both = None if ranks is None or ranks.pair is None else guidance_pair(ranks.pair)
    noise = initial_noise(inputs.latent_shape, seed).to(device)
    schedule, guidance = given.sampling.schedule, given.sampling.guidance
    solver = new_solver(given.sampling.solver, schedule.sigmas, noise_sampler(inputs.latent_shape, seed))
    with given.speaker as speaker:
        extra = given.sampling.extra
        made = denoise(noise, schedule, solver, speaker, prompts, guidance, inputs.progress, extra, both)
    return made.cpu()


@contextmanager
def _vae(inputs: SpeechInputs) -> Iterator[OwnVae]:
    """Load the VAE, with room to encode and to decode. Unloads it at the end."""
    model, memory = inputs.model, inputs.memory.for_part("vae")
    dtype, shape = compute_dtype(model.precision, memory, "vae"), inputs.latent_shape

    def working_bytes(way: Way) -> int:
        return vae_working_bytes(model, way, shape, dtype, vae_tiling(model, way, shape, memory))

    working = max(working_bytes("decode"), working_bytes("encode"))
    try:
        yield load_model_vae(model, dtype, memory, inputs.progress.check, working)
    finally:
        memory.release()


@torch.inference_mode()
def _encoded(vae: OwnVae, frames: Iterable[Tensor], inputs: SpeechInputs) -> Tensor:
    """Encode 4 T - 3 frames. Returns normalised latents (1, C, T, h, w), float32, on the CPU."""
    tiling = vae_tiling(inputs.model, "encode", inputs.latent_shape, inputs.memory)
    latents = stream_encode(vae, iter(frames), tiling=tiling)
    return normalise(torch.stack([latent.float().cpu() for latent in latents], 1)[None], inputs.model.vae)


def _decoded(
    vae: OwnVae, before: Tensor, latents: Tensor, frames: int, inputs: SpeechInputs
) -> Iterator[Tensor]:
    """Decode the first `frames` frames of `latents` as the continuation of `before`, on the CPU."""
    hidden = 4 * before.shape[2] - 3
    whole = denormalise(torch.cat([before, latents], dim=2), inputs.model.vae)
    tiling = vae_tiling(inputs.model, "decode", inputs.latent_shape, inputs.memory)
    decoded = stream_decode(vae, whole, frames=hidden + frames, tiling=tiling)
    try:
        for frame in islice(decoded, hidden, None):
            yield frame.cpu()
    finally:
        close(decoded)
