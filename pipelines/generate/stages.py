"""The stages of a local run as functions: encode text, sample. `frame_stages` has those of the VAE.

`sampled_latents` chains them and the building-block nodes call them one by one, so both give the same bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..errors import ModelError, RequestError, SamplingError
from ..kernels.choices import FloatChoices
from ..loading.wan_model import WanModel
from ..networks.expert import expert_kind
from ..networks.text_encoder import EncodedPrompt, TextEncoder, load_text_encoder, text_encoder_bytes
from ..parallel.gpu_world import GpuRanks
from ..parallel.guidance_pair import guidance_pair
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
from ..vae.latent_space import denormalise, normalise
from .conditions import require_channels
from .gpu_choice import require_one_device
from .memory_estimate import chunk_tokens, estimate_memory

__all__ = ["PURE_NOISE_FROM", "encode_prompts", "float_choices", "require_finite_values", "sample"]

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
    # A function of its own: its encoder is gone when the caller releases the memory.
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
            require_finite_values(text_encoder=known.embeddings)
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
    negative = None if prompts.negative is None else prompts.negative.text
    require_finite_values(
        latents=latents, positive=prompts.positive.text, negative=negative, nag_negative=prompts.avoided
    )
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


def require_finite_values(**tensors: Tensor | None) -> None:
    """Raise SamplingError when a tensor contains NaN or Inf. Its keyword names it in the message."""
    for name, tensor in tensors.items():
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            raise SamplingError(
                f"{name.replace('_', ' ')}: contains NaN or Inf. Check the node or file that produced it, or "
                "set precision to fp32."
            )


def _noise_beside(draw: Callable[[], Tensor], latents: Tensor, kept: Tensor) -> Tensor:
    """Draw noise that leaves given frames as they are: a mean of two equal values is the value."""
    return torch.where(kept, latents, draw().to(latents.device))


def _by_frame(kept: Tensor) -> Tensor:
    return kept.view(1, 1, -1, 1, 1)
