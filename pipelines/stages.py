"""The stages of a local run as plain calls: text, sampling, decoding.

`local.run` chains them and the building-block nodes call them one by one, so both give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from .errors import ModelError, SamplingError
from .kernels.choices import FloatChoices
from .media.tiles import Tiling
from .media.vae_decode import stream_decode
from .memory import Memory, compute_dtype
from .models.expert import ExpertPair
from .models.lone_vae import HasVae
from .models.text import EncodedPrompt, TextEncoder, load_text_encoder, reading_bytes
from .models.vae import denormalise, load_vae, normalise
from .models.wan_model import WanModel
from .preflight import decode_bytes, look_ahead
from .progress import Progress
from .sampling.engine import Condition, Prompts
from .sampling.loop import denoise
from .sampling.noise import add_noise, from_leftover, to_leftover
from .sampling.schedule import Schedule
from .sampling.solvers import SOLVERS

__all__ = ["decode", "encode_prompts", "float_choices", "sample"]

# The official grid starts at 0.999 before the shift, and is fed pure noise there: wan/text2video.py.
_PURE_NOISE_FROM = 0.999


def encode_prompts(
    model: WanModel, prompts: Sequence[str], memory: Memory, progress: Progress
) -> list[EncodedPrompt]:
    """Each prompt as UMT5 embeddings (1, 512, D), float32, CPU. The encoder is gone when this returns, and
    not even loaded for prompts that the model knows.
    """
    progress.begin("text", len(prompts), "prompts")
    try:
        return _encode(model, prompts, memory, progress)
    finally:
        memory.release()


@torch.inference_mode()
def _encode(
    model: WanModel, prompts: Sequence[str], memory: Memory, progress: Progress
) -> list[EncodedPrompt]:
    dtype = compute_dtype(model.precision, memory.device)
    length = model.family.text_length
    recipe, working = model.text_encoder, reading_bytes(model.text_encoder.config, length)
    encoder: TextEncoder | None = None
    encoded: list[EncodedPrompt] = []
    for prompt in prompts:
        progress.check()
        key = model.prompts.key(recipe, dtype, memory.device, prompt)
        known = model.prompts.find(key)
        if known is None:
            encoder = encoder or load_text_encoder(
                recipe, model.tokenizer, length, dtype, memory, progress.check, working
            )
            known = encoder.encode(prompt)
            _check_finite(text_encoder=known.embeddings)
            model.prompts.keep(key, known)
        encoded.append(known)
        progress.advance(len(encoded))
    return encoded


@torch.inference_mode()
def sample(
    model: WanModel,
    schedule: Schedule,
    solver: str,
    latents: Tensor,
    noise: Tensor | None,
    prompts: Prompts,
    guidance: Mapping[str, float],
    memory: Memory,
    progress: Progress,
    *,
    check_memory: bool = True,
) -> Tensor:
    """Run `schedule` and return latents in VAE space, float32, CPU.

    latents: (B, C, T, H/8, W/8) in VAE space; zeros where there is nothing yet. When `noise` is None they
             still hold noise of level schedule.sigmas[0], in the leftover form x / (1 - sigma).
    noise:   normal noise of the same shape to start from.

    check_memory: refuse with ModelError, before anything is loaded, what cannot fit.

    A schedule that ends above sigma 0 gives its latents in the leftover form too; one without a step, which
    is what a strength of 0 leaves, gives back what it was given.
    """
    _check_latents(model, latents, noise)
    _check_finite(latents=latents, positive=prompts.positive.text)
    if prompts.negative is not None:
        _check_finite(negative=prompts.negative.text)
    for expert in dict.fromkeys(schedule.experts):
        if expert not in model.experts:
            raise ModelError(
                f"{model.name}: has no {expert}-noise expert, which these steps need; load a model with "
                "both, or leave the boundary to the model"
            )
    if not len(schedule):
        return latents
    ahead = look_ahead(model, memory, latents.shape, schedule.experts, sampling_only=True)
    if check_memory:
        ahead.require_room()
    device, start, end = memory.device, schedule.sigmas[0], schedule.sigmas[-1]
    clean = latents.to(device=device, dtype=torch.float32)
    if clean.any():
        clean = normalise(clean, model.vae)
    if noise is None:
        current = from_leftover(clean, start)
    elif start >= _PURE_NOISE_FROM:
        current = noise.to(device)
    else:
        current = add_noise(clean, noise.to(device), start)
    on_device = Prompts(*(_to(condition, device) for condition in (prompts.positive, prompts.negative)))  # type: ignore[arg-type]
    dtype = compute_dtype(model.precision, device)
    working_bytes = max(stage.working_bytes for stage in ahead.stages)
    choices = float_choices(model, device)
    with ExpertPair(model.experts, dtype, memory, progress.check, working_bytes, choices) as experts:
        current = denoise(
            current, schedule, SOLVERS[solver](schedule.sigmas), experts, on_device, dict(guidance), progress
        )
    if end > 0:
        current = to_leftover(current, end)
    return denormalise(current, model.vae).cpu()


def float_choices(model: WanModel, device: torch.device) -> FloatChoices:
    """How the experts of `model` compute on `device`: as wished, else in the quickest way there is."""
    head_width = int(model.experts["high"].config.get("attention_head_dim", 128))
    return model.wishes.granted(device, compute_dtype(model.precision, device), head_width=head_width)


def decode(
    model: HasVae,
    latents: Tensor,
    memory: Memory,
    progress: Progress,
    *,
    frames: int | None = None,
    tiling: Tiling | None = None,
) -> Iterator[Tensor]:
    """Frames (3, H, W) in [-1, 1] of `latents` (1, C, T, H/8, W/8) in VAE space; the first `frames` of them.

    tiling: cut pictures that are larger than its tiles; see `preflight.decode_tiling`.

    The VAE is loaded at the first frame and dropped when the iterator ends or is closed.
    """
    try:
        yield from _decode(model, latents, memory, progress, frames, tiling)
    finally:
        memory.release()


def _decode(
    model: HasVae,
    latents: Tensor,
    memory: Memory,
    progress: Progress,
    frames: int | None,
    tiling: Tiling | None,
) -> Iterator[Tensor]:
    dtype = compute_dtype(model.precision, memory.device)
    working = decode_bytes(model, latents.shape, dtype, tiling)
    vae = load_vae(model.vae, dtype, memory, progress.check, working)
    yield from stream_decode(vae, latents, frames=frames, tiling=tiling)


def _check_latents(model: WanModel, latents: Tensor, noise: Tensor | None) -> None:
    channels = model.family.latent_channels
    if latents.ndim != 5 or latents.shape[1] != channels:
        raise ModelError(
            f"latents: shape {tuple(latents.shape)}; {model.family.name} needs "
            f"(1, {channels}, frames, height, width)"
        )
    frames, rows, columns = latents.shape[2:]
    if not frames or rows % 2 or columns % 2 or not rows * columns:
        stride = model.family.vae_stride[1]
        raise ModelError(
            f"latents: {frames} frames of {columns}x{rows}; {model.family.name} needs one frame or more, "
            f"and a picture whose sides are multiples of {2 * stride} pixels"
        )
    if noise is not None and noise.shape != latents.shape:
        raise SamplingError(f"noise: shape {tuple(noise.shape)}, but the latents have {tuple(latents.shape)}")


def _check_finite(**tensors: Tensor) -> None:
    """Stop at the stage that made a number which is not finite; named for the user who must look there."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise SamplingError(
                f"{name.replace('_', ' ')}: holds numbers that are not finite; look at what made it, or try "
                "precision fp32"
            )


def _to(condition: Condition | None, device: torch.device) -> Condition | None:
    return None if condition is None else Condition(condition.text.to(device))
