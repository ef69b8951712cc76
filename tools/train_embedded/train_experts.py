"""The experts: each learns the velocity of its own noise range, on cached latents.

The low expert starts from the high one, and the image pair from the text pair, as the real ones grew out of
one model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.nn import functional

from .adopt import adopted_file
from .checkpoint import TrainingState, randomness, torch_randomness
from .flow import draw_sigmas, noised
from .fold import official_statistics
from .grammar import prompt_of
from .latents import LatentSet, condition_mask, latent_set
from .muon import Muon
from .networks import BOUNDARY, IMAGE_BOUNDARY, new_expert
from .one_pass import decode_clip
from .padded_text import attend_padded, mute_padding
from .pool import Clip, scene_clips
from .preview import save_sheet, tensor_to_frames
from .sampler import draw
from .schedule import Figures, Run, train_steps
from .sentences import describe, encode_prompts
from .train_text import trained_text_encoder
from .train_vae import folded_vae
from .vocabulary import build_tokenizer

__all__ = [
    "ExpertTraining",
    "expert_optimizers",
    "latents_to_frames",
    "one_ahead",
    "train_expert",
    "trained_expert",
]

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_RATE = 1.5e-3
_MATRIX_RATE = 8e-3
_CPU_STEPS = {"high": 3000, "low": 5000, "high_image": 900, "low_image": 1500}  # details need the most
_SIZES = ((112, 64),) * 3 + ((64, 64),) * 3 + ((64, 112),) * 2  # 16:9 is what a request means by default
_MORE_STARS = 0.3  # share of clips: the points of a star are the finest thing to learn, and came last
_STILLS = 0.1  # share of batches that are the first frame alone: text-to-image


@dataclass(frozen=True)
class ExpertTraining:
    steps: int
    batch: int
    clips: int
    unseen: int = 64
    sizes: tuple[tuple[int, int], ...] = _SIZES

    @classmethod
    def for_run(cls, stage: str, run: Run) -> ExpertTraining:
        image = stage.endswith("_image")
        if run.fast:
            steps, batch, clips = 3000 if image else 6000, 256, 8192 if image else 12288
        else:
            steps, batch, clips = _CPU_STEPS[stage], 32, 1024 if image else 4096
        return cls(max(1, int(steps * run.scale)), batch, clips)

    def seen(self, image: bool) -> list[Clip]:
        """The clips to train on."""
        kind = "image" if image else "text"
        return scene_clips(kind, self.clips, sizes=self.sizes, more_stars=_MORE_STARS)

    def held_out(self) -> list[Clip]:
        """The clips to measure the loss on."""
        return scene_clips("unseen", self.unseen, held_out=True, sizes=self.sizes)


@dataclass(frozen=True)
class Batch:
    """What one step needs: prompts, latents, and for image-to-video the condition channels."""

    prompts: list[str]
    latents: torch.Tensor
    condition: torch.Tensor | None


def train_expert(name: str, run: Run, image: bool = False, plan: ExpertTraining | None = None) -> bool:
    """`name`: high or low; stages are called high, low, high_image and low_image."""
    stage = f"{name}_image" if image else name
    plan = plan or ExpertTraining.for_run(stage, run)
    boundary = IMAGE_BOUNDARY if image else BOUNDARY
    vae = folded_vae(run)
    kind = "image" if image else "text"
    seen = latent_set(kind, plan.seen(image), vae, run, image)
    unseen = latent_set(f"{kind}_unseen", plan.held_out(), vae, run, image)
    if seen is None or unseen is None:
        return False
    encoder, tokenizer = trained_text_encoder(run), build_tokenizer()
    expert = starting_expert(stage, run).to(run.device)
    state = TrainingState({"expert": attend_padded(expert)}, expert_optimizers(expert, _RATE))

    def prepared(data: LatentSet, key: str, batch: int, index: int) -> tuple[Batch, torch.Tensor]:
        drawn = draw_batch(data, batch, randomness(key, index), run.device, image)
        return drawn, encode_prompts(encoder, tokenizer, drawn.prompts)

    def loss(made: tuple[Batch, torch.Tensor], key: str, index: int) -> torch.Tensor:
        drawn, text = made
        sigmas = draw_sigmas(name, boundary, len(drawn.prompts), randomness(f"{key}/sigma", index))
        return velocity_loss(expert, drawn, text, sigmas, torch_randomness(key, index, run.device), run)

    batches = partial(prepared, seen, stage, plan.batch)
    next_batch = one_ahead(batches) if run.fast else batches

    def step(index: int) -> tuple[torch.Tensor, Figures]:
        return loss(next_batch(index), stage, index), {}

    def preview(index: int) -> Figures:
        key = f"{stage}/unseen"
        values = [loss(prepared(unseen, key, 32, number), key, number) for number in range(6)]
        partner = _partner(name, image, run)
        pair = (expert, partner) if name == "high" else (partner, expert)
        sheet = sketch(
            pair, unseen, vae, lambda prompts: encode_prompts(encoder, tokenizer, prompts), boundary, run
        )
        save_sheet(run.out / "preview" / f"{stage}-{index:06d}.png", list(sheet))
        return {"unseen_loss": float(torch.stack(values).mean())}

    with run.short_attention(), compiled_blocks(expert, run):
        return train_steps(stage, run, plan.steps, state, step, preview)


@contextmanager
def compiled_blocks(expert: WanTransformer3DModel, run: Run) -> Iterator[None]:
    """Block by block, if the run asks for it: inductor's CPU code of the whole gave NaN (torch 2.13)."""
    if not run.compiled:
        yield
        return
    shapes = 2 * 2 * len(set(_SIZES))  # clips and stills, with gradients and without
    for block in expert.blocks:
        block.compile(dynamic=False)
    with torch._dynamo.config.patch(recompile_limit=shapes * len(expert.blocks)):
        yield


def one_ahead(make: Callable[[int], _T]) -> Callable[[int], _T]:
    """`make`, with the next number made in a thread while the caller works on this one."""
    threads, waiting = ThreadPoolExecutor(1), dict[int, Future[_T]]()

    def get(index: int) -> _T:
        found = waiting.pop(index, None) or threads.submit(make, index)
        waiting[index + 1] = threads.submit(make, index + 1)
        return found.result()

    return get


def draw_batch(
    data: LatentSet,
    batch: int,
    rng: np.random.Generator,
    device: torch.device,
    image: bool,
    still: float = _STILLS,
) -> Batch:
    scenes, latents, conditions = data.draw(batch, rng, device)
    prompts = [describe(scene, rng) for scene in scenes]
    if not image:
        return Batch(prompts, latents[:, :, :1] if rng.random() < still else latents, None)
    if conditions is None:
        raise ValueError("These latents were cached without image-to-video conditions.")
    last = torch.from_numpy((rng.random(batch) < 0.35).astype(np.int64)).to(device)
    height, width = latents.shape[3] * 8, latents.shape[4] * 8
    both = torch.stack([condition_mask(height, width, flag) for flag in (False, True)]).to(device)
    masks = both[last]
    return Batch(
        prompts, latents, torch.cat([masks, conditions[torch.arange(batch, device=device), last]], dim=1)
    )


def velocity_loss(
    expert: Callable[..., tuple[torch.Tensor]],
    batch: Batch,
    text: torch.Tensor,
    sigmas: np.ndarray,
    generator: torch.Generator,
    run: Run,
) -> torch.Tensor:
    noise = torch.randn(batch.latents.shape, generator=generator, device=run.device)
    sigma = torch.from_numpy(sigmas).to(run.device, torch.float32)
    x, target = noised(batch.latents, noise, sigma)
    x = x if batch.condition is None else torch.cat([x, batch.condition], dim=1)
    with run.autocast():
        velocity = expert(x, 1000 * sigma, text, return_dict=False)[0]
    return functional.mse_loss(velocity.float(), target)


def starting_expert(stage: str, run: Run) -> WanTransformer3DModel:
    """A new expert, the adopted one, or a copy of the one it grows from; new input channels start at zero."""
    if adopted_file(run, stage).exists():
        expert = new_expert(in_channels=36 if stage.endswith("_image") else 16)
        expert.load_state_dict(torch.load(adopted_file(run, stage), weights_only=True))
        return expert
    if stage == "high":
        expert = new_expert()
        mute_padding(expert)
        torch.nn.init.zeros_(expert.proj_out.weight)
        torch.nn.init.zeros_(expert.proj_out.bias)
        return expert
    if stage == "low":
        return trained_expert("high", run)
    text = stage.removesuffix("_image")
    parent = trained_expert(text, run) if run.checkpoint(text).exists() else starting_expert(text, run)
    expert = new_expert(in_channels=36)
    weights = parent.state_dict()
    narrow = weights["patch_embedding.weight"]
    wide = torch.zeros_like(expert.patch_embedding.weight, device=narrow.device)
    wide[:, : narrow.shape[1]] = narrow
    weights["patch_embedding.weight"] = wide
    expert.load_state_dict(weights)
    return expert


def trained_expert(stage: str, run: Run) -> WanTransformer3DModel:
    """The averaged weights of a stage, as far as it has come."""
    saved = torch.load(run.checkpoint(stage), map_location=run.device, weights_only=True)
    expert = new_expert(in_channels=36 if stage.endswith("_image") else 16).to(run.device)
    expert.load_state_dict(saved["averages"]["expert"])
    return expert


def expert_optimizers(expert: WanTransformer3DModel, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, which learn faster with it; AdamW for everything else."""
    matrices = [p for p in expert.blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in expert.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=_MATRIX_RATE),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=0.0),
    ]


@torch.no_grad()
def latents_to_frames(vae: AutoencoderKLWan, latents: torch.Tensor, run: Run) -> np.ndarray:
    """(B, 16, t, h, w) normalised -> (B, T, H, W, 3) uint8."""
    mean, std = official_statistics(vae)
    with run.autocast(convolutions=True):
        return tensor_to_frames(decode_clip(vae, latents * std + mean))


def sketch(
    pair: tuple[WanTransformer3DModel | None, WanTransformer3DModel | None],
    unseen: LatentSet,
    vae: AutoencoderKLWan,
    encode: Callable[[Sequence[str]], torch.Tensor],
    boundary: float,
    run: Run,
) -> np.ndarray:
    """Eight unseen scenes at 64x64, drawn from their prompts (and given frames)."""
    size = (64, 64)
    scenes = unseen.scenes[size][:8]
    prompts = [prompt_of(scene, randomness("sketch", row)) for row, scene in enumerate(scenes)]
    noise = torch.randn(
        (len(scenes), *unseen.latents[size].shape[1:]),
        generator=torch_randomness("sketch", 0, run.device),
        device=run.device,
    )
    condition = None
    if unseen.conditions:
        last = torch.arange(len(scenes)) % 2
        masks = torch.stack([condition_mask(64, 64, bool(flag)) for flag in last])
        views = unseen.conditions[size][: len(scenes)].cpu().float()
        condition = torch.cat([masks, views[torch.arange(len(scenes)), last]], dim=1).to(run.device)
    with run.autocast():
        latents = draw(
            *pair, noise, encode(prompts), encode([""] * len(prompts)), boundary, condition=condition
        )
    for prompt in prompts:
        log.info("sketch: %s", prompt)
    return latents_to_frames(vae, latents, run)


def _partner(name: str, image: bool, run: Run) -> WanTransformer3DModel | None:
    other = ("low" if name == "high" else "high") + ("_image" if image else "")
    return attend_padded(trained_expert(other, run)).eval() if run.checkpoint(other).exists() else None
