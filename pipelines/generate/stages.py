"""The stages of a local run as functions: encode text, sample, decode.

`sampled_latents` chains them and the building-block nodes call them one by one, so both give the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError, RequestError, SamplingError
from ..kernels.choices import FloatChoices
from ..loading.host_model import HostModel, has_whole_vae
from ..loading.wan_model import WanModel
from ..networks.expert import expert_kind
from ..networks.text_encoder import EncodedPrompt, TextEncoder, load_text_encoder, text_encoder_bytes
from ..parallel.gpu_world import GpuRanks
from ..parallel.guidance_pair import guidance_pair
from ..parallel.rank_group import RankGroup
from ..parallel.row_share import RowShare
from ..plan.context_windows import at_once
from ..progress import Progress
from ..request.prompt_weights import PromptSyntax, is_plain
from ..sampling.engine import Prompts
from ..sampling.loop import denoise
from ..sampling.noise import StartLatents, add_noise, from_leftover, to_leftover
from ..sampling.schedule import Sampling
from ..sampling.solvers import new_solver
from ..sampling.step_cache import StepCache
from ..sampling.windowed_experts import WindowedExperts, WindowProgress
from ..streaming.executor import Executor
from ..streaming.residency import Residency
from ..vae.decode import stream_decode
from ..vae.encode import stream_encode
from ..vae.latent_space import denormalise, load_model_vae, normalise
from ..vae.standalone import HasVae
from ..vae.tiles import Tiling
from ..video.frame_stream import close
from .conditions import require_channels
from .gpu_choice import require_one_device
from .memory_estimate import chunk_tokens, estimate_memory, frame_size, vae_working_bytes

__all__ = ["PURE_NOISE_FROM", "decode", "encode", "encode_prompts", "float_choices", "sample"]

log = logging.getLogger(__name__)

# The official grid starts at 0.999 before the shift, and is fed pure noise there: wan/text2video.py.
PURE_NOISE_FROM = 0.999


def encode_prompts(
    model: WanModel,
    prompts: Sequence[str],
    memory: Memory,
    progress: Progress,
    syntax: PromptSyntax = "plain",
) -> list[EncodedPrompt]:
    """Encode each prompt with UMT5. Returns embeddings (1, 512, D), float32, on the CPU.

    syntax: how prompts are read. With `comfy`, one with weights may have more than 512 tokens. Raises
            RequestError if the model cannot read more.

    Unloads the encoder before it returns. Does not load it when the model has cached all of the prompts.
    """
    progress.begin("text", len(prompts), "prompts")
    try:
        return _encode(model, prompts, memory, progress, syntax)
    finally:
        memory.release()


@torch.inference_mode()
def _encode(
    model: WanModel, prompts: Sequence[str], memory: Memory, progress: Progress, syntax: PromptSyntax
) -> list[EncodedPrompt]:
    dtype = compute_dtype(model.precision, memory, "text_encoder")
    length = model.family.text_length
    recipe, working = model.text_encoder, text_encoder_bytes(model.text_encoder.config, length)
    encoder: TextEncoder | None = None
    encoded: list[EncodedPrompt] = []
    for prompt in prompts:
        progress.check()
        weighted = syntax == "comfy" and not is_plain(prompt)
        key = model.prompts.key(recipe, dtype, memory.device, prompt, weighted=weighted)
        known = model.prompts.find(key)
        if known is None:
            encoder = encoder or load_text_encoder(
                recipe, model.tokenizer, length, dtype, memory, progress.check, working
            )
            known = encoder.encode_weighted(prompt) if weighted else encoder.encode(prompt)
            _require_readable(model, known)
            _check_finite(text_encoder=known.embeddings)
            model.prompts.keep(key, known)
        encoded.append(known)
        progress.advance(len(encoded))
    return encoded


def _require_readable(model: WanModel, prompt: EncodedPrompt) -> None:
    """Raise RequestError if the experts find the image by the length of the text, and it is longer."""
    length = model.family.text_length
    if model.family.uses_clip and prompt.tokens > length:
        found = f"{prompt.tokens} tokens, but {model.family.name} reads {length}"
        raise RequestError.of(
            "prompt", found, "shorten it, or set local.prompt_syntax to plain, which cuts it"
        )


@torch.inference_mode()
def sample(
    model: WanModel,
    sampling: Sampling,
    start: StartLatents,
    prompts: Prompts,
    memory: Memory,
    progress: Progress,
    *,
    check_memory: bool = True,
    cache: StepCache | None = None,
    residency: Residency | None = None,
    choices: FloatChoices | None = None,
    ranks: GpuRanks | None = None,
) -> Tensor:
    """Run the steps of `sampling` and return latents in VAE space, float32, CPU.

    check_memory: raise ModelError before anything is loaded if the run does not fit into memory.
    cache:        a new step cache, to skip work; None computes every step.
    residency, choices: decisions made earlier. When None, the free memory decides the residency, and the
                  preferences of the model decide the choices.
    ranks:        share the work, each by a call of its own; each returns the same bits. None for one device.

    A schedule that ends above sigma 0 returns latents with leftover noise. A schedule without a step, as of
    strength 0, returns the latents unchanged.
    """
    if ranks is None:
        require_one_device(model)
    else:
        start, prompts = ranks.from_first(start), ranks.from_first(prompts)
    schedule, latents, noise, kept = sampling.schedule, start.latents, start.noise, start.kept
    _check_latents(model, latents, noise)
    require_channels(model, prompts, latents, kept)
    _check_finite(latents=latents, positive=prompts.positive.text)
    if prompts.negative is not None:
        _check_finite(negative=prompts.negative.text)
    if prompts.avoided is not None:
        _check_finite(nag_negative=prompts.avoided)
    for expert in dict.fromkeys(schedule.experts):
        if expert not in model.experts:
            raise ModelError(
                f"{model.name}: has no {expert}-noise expert, but these steps need it; load a model "
                "with both experts, or set boundary to -1"
            )
    if not len(schedule):
        return latents
    estimate = estimate_memory(
        model,
        memory,
        at_once(latents.shape, sampling.windows),
        schedule.networks,
        sampling_only=True,
        cached=cache is not None and cache.choice.keeps_hidden_states,
        residency=residency,
    )
    if check_memory:
        estimate.require_room()
    device, first, last = memory.device, schedule.sigmas[0], schedule.sigmas[-1]
    clean = latents.to(device=device, dtype=torch.float32)
    if clean.any():
        clean = normalise(clean, model.vae)
    if noise is None:
        current = from_leftover(clean, first)
    elif first >= PURE_NOISE_FROM:
        current = noise.to(device)
    else:
        current = add_noise(clean, noise.to(device), first)
    if kept is not None:
        current = torch.where(_by_frame(kept).to(device), clean, current)
    on_device = prompts.to(device, kept)
    dtype = compute_dtype(model.precision, memory, "transformer")
    choices = choices or float_choices(model, at_once(latents.shape, sampling.windows), memory)
    residency = estimate.residency
    assert residency is not None  # noqa: S101 - it is decided where there are steps
    log.info("experts: %s; %s", residency.text(), choices.text())
    working_bytes = max(stage.working_bytes for stage in estimate.stages)
    draw = start.noise_sampler
    if draw is not None and kept is not None:
        draw = partial(_noise_beside, draw, current, _by_frame(kept).to(device))
    solver = new_solver(sampling.solver, schedule.sigmas, draw)
    both = None if ranks is None or ranks.pair is None else guidance_pair(ranks.pair)
    forwards = sampling.forwards if both is None else sampling.forwards[::2]  # of one prompt
    with Executor(
        model.experts_on(device),
        dtype,
        memory,
        progress.check,
        working_bytes,
        residency=residency,
        forwards=forwards,
        choices=choices,
        kind=expert_kind(sampling.riflex),
        ranks=None if ranks is None else ranks.sequence,
    ) as executor:
        experts = executor if cache is None else cache.around(executor)
        if sampling.windows is not None:
            progress = WindowProgress(progress, len(forwards))
            experts = WindowedExperts(experts, schedule, sampling.windows, progress)
        current = denoise(
            current,
            schedule,
            solver,
            experts,
            on_device,
            sampling.guidance,
            progress,
            sampling.extra,
            both,
        )
    if last > 0:
        current = to_leftover(current, last)
    finished = denormalise(current, model.vae).cpu()
    return finished if kept is None else torch.where(_by_frame(kept), latents, finished)


def encode(
    model: HasVae,
    frames: Iterator[Tensor],
    latent_shape: Sequence[int],
    memory: Memory,
    progress: Progress,
    *,
    tiling: Tiling | None = None,
) -> Tensor:
    """Encode `frames` (3, H, W) in [-1, 1]. Returns latents (1, C, T, H/8, W/8) in VAE space, float32, CPU.

    latent_shape: (..., T, H/8, W/8) of the result.
    tiling:       encode in tiles; None encodes whole frames. See `memory_estimate.vae_tiling`.
    """
    if has_whole_vae(model):
        return _encode_whole(model, frames, latent_shape)
    memory = memory.for_part("vae")
    try:
        return _encode_frames(model, frames, latent_shape, memory, progress, tiling)
    finally:
        close(frames)
        memory.release()


def _encode_whole(model: HostModel, frames: Iterator[Tensor], latent_shape: Sequence[int]) -> Tensor:
    """Encode all frames at once, by a VAE that only the host can run."""
    shown = torch.stack([frame.movedim(0, -1) for frame in frames]).float()
    latents = model.networks.encode_whole((shown + 1) / 2)
    if tuple(latents.shape[-3:]) != tuple(latent_shape[-3:]):
        raise ModelError(
            f"vae: {model.whole_vae} encodes to {tuple(latents.shape[-3:])}, but this run needs "
            f"{tuple(latent_shape[-3:])}; connect a Wan VAE"
        )
    _check_finite(input=latents)
    return latents


def _decode_whole(model: HostModel, latents: Tensor, frames: int | None) -> Iterator[Tensor]:
    """Decode all frames at once, by a VAE that only the host can run."""
    images = model.networks.decode_whole(latents)
    width, height = frame_size(model, latents.shape)
    wanted = (latents.shape[2] - 1) * model.family.vae_stride[0] + 1, height, width
    if tuple(images.shape[:3]) != wanted:
        raise ModelError(
            f"vae: {model.whole_vae} decodes to {tuple(images.shape[:3])} frames, rows and columns, but this "
            f"run needs {wanted}; connect a Wan VAE"
        )
    for image in images[:frames]:
        yield image.movedim(-1, 0) * 2 - 1


def _encode_frames(
    model: HasVae,
    frames: Iterator[Tensor],
    latent_shape: Sequence[int],
    memory: Memory,
    progress: Progress,
    tiling: Tiling | None,
) -> Tensor:
    progress.begin("input", latent_shape[-3], "latent frames")
    dtype = compute_dtype(model.precision, memory, "vae")
    working = vae_working_bytes(model, "decode", latent_shape, dtype, tiling)  # encoding takes less
    vae = load_model_vae(model, dtype, memory, progress.check, working)
    done: list[Tensor] = []
    for latent in stream_encode(vae, frames, tiling=tiling):
        progress.check()
        done.append(latent.float().cpu())
        progress.advance(len(done))
    latents = torch.stack(done, 1)[None]
    _check_finite(input=latents)
    return latents


def float_choices(model: WanModel, latent_shape: Sequence[int], memory: Memory) -> FloatChoices:
    """Choose the kernels for the experts of `model`: those the user asked for, else the fastest.

    Raises ModelError when the requested kernels do not run on the device.
    """
    return model.preferences.resolve(
        memory.device,
        compute_dtype(model.precision, memory, "transformer"),
        head_width=int(next(iter(model.experts.values())).config.get("attention_head_dim", 128)),
        chunk_tokens=chunk_tokens(model, latent_shape, memory),
    )


def decode(
    model: HasVae,
    latents: Tensor,
    memory: Memory,
    progress: Progress,
    *,
    frames: int | None = None,
    tiling: Tiling | None = None,
    group: RankGroup | None = None,
) -> Iterator[Tensor]:
    """Decode `latents` (1, C, T, H/8, W/8) in VAE space. Yields frames (3, H, W) in [-1, 1].

    frames: stop after so many frames; None decodes all.
    tiling: decode in tiles; None decodes whole frames. See `memory_estimate.vae_tiling`.
    group:  the ranks that decode whole frames together, each of which calls this; see `stream_decode`.

    Loads the VAE at the first frame and unloads it when the iterator ends or is closed.
    """
    if has_whole_vae(model):
        yield from _decode_whole(model, latents, frames)
        return
    memory = memory.for_part("vae")
    try:
        yield from _decode(model, latents, memory, progress, frames, tiling, group)
    finally:
        memory.release()


def _decode(
    model: HasVae,
    latents: Tensor,
    memory: Memory,
    progress: Progress,
    frames: int | None,
    tiling: Tiling | None,
    group: RankGroup | None,
) -> Iterator[Tensor]:
    dtype = compute_dtype(model.precision, memory, "vae")
    working = vae_working_bytes(model, "decode", latents.shape, dtype, tiling)
    rows = None if group is None else RowShare(group, latents.shape[-2])
    vae = load_model_vae(model, dtype, memory, progress.check, working, rows)
    yield from stream_decode(vae, latents, frames=frames, tiling=tiling)


def _check_latents(model: WanModel, latents: Tensor, noise: Tensor | None) -> None:
    if model.family.needs_audio:
        raise ModelError(
            f"{model.name}: a speech model needs a sound, and a sampler node has no input for one; use Wan "
            "Duet Speech to Video and Wan Duet Run Local"
        )
    channels = model.family.latent_channels
    if latents.ndim != 5 or latents.shape[1] != channels:
        raise ModelError(
            f"latents: have shape {tuple(latents.shape)}, but {model.family.name} needs "
            f"(1, {channels}, frames, height, width)"
        )
    frames, rows, columns = latents.shape[2:]
    if not frames or rows % 2 or columns % 2 or not rows * columns:
        stride = model.family.vae_stride[1]
        raise ModelError(
            f"latents: have {frames} latent frames of {columns}x{rows}; {model.family.name} needs one frame "
            f"or more, and a width and height that are multiples of {2 * stride} pixels"
        )
    if noise is not None and noise.shape != latents.shape:
        raise SamplingError(
            f"noise: has shape {tuple(noise.shape)}, but the latents have {tuple(latents.shape)}"
        )


def _check_finite(**tensors: Tensor) -> None:
    """Raise SamplingError when a tensor contains NaN or Inf. Its keyword names it in the message."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise SamplingError(
                f"{name.replace('_', ' ')}: contains NaN or Inf. Check the node or file that produced it, or "
                "set precision to fp32."
            )


def _noise_beside(draw: Callable[[], Tensor], latents: Tensor, kept: Tensor) -> Tensor:
    """Draw noise that leaves given frames as they are: a mean of two equal values is the value."""
    return torch.where(kept, latents, draw().to(latents.device))


def _by_frame(kept: Tensor) -> Tensor:
    return kept.view(1, 1, -1, 1, 1)
