"""The VAE: many cheap steps on small crops, because it is translation-invariant, and a few on whole clips.

It learns space before time: single frames first, then one latent step, then two, then whole clips now and
then.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch.nn import functional

from .checkpoint import TrainingState, randomness, torch_randomness
from .clips import SIZES
from .fold import fold_latent_statistics
from .muon import Muon
from .networks import new_vae
from .one_pass import decode_clip, encode_clip
from .pool import mixed_clips, render_all, scene_clips
from .preview import frames_to_tensor, save_sheet, tensor_to_frames
from .schedule import Figures, Run, train_steps

__all__ = [
    "POSTERIOR_STD",
    "VaeTraining",
    "crop_batch",
    "folded_vae",
    "psnr",
    "reconstruction_loss",
    "train_vae",
]

log = logging.getLogger(__name__)

POSTERIOR_STD = 0.1  # latent noise of the last part, in standard deviations of each channel
_CROP = 32


@dataclass(frozen=True)
class VaeTraining:
    steps: int
    batch: int  # of nine-frame crops; shorter ones come in larger batches
    pool: int
    rate: float = 2e-3
    kernel_rate: float = 1e-2
    lengths: tuple[tuple[float, int], ...] = ((0.12, 1), (0.5, 5), (1.0, 9))  # until this share: frames
    whole_every: int = 12
    noise_after: float = 0.7

    @classmethod
    def for_run(cls, run: Run) -> VaeTraining:
        steps, batch, pool = (5000, 96, 8192) if run.fast else (4000, 4, 768)
        return cls(max(1, int(steps * run.scale)), batch, pool)

    def frames_at(self, step: int) -> int:
        return next(frames for share, frames in self.lengths if step < share * self.steps or share == 1.0)


def train_vae(run: Run, plan: VaeTraining | None = None) -> bool:
    plan = plan or VaeTraining.for_run(run)
    clips = render_all(mixed_clips("vae", plan.pool), run.workers)
    unseen = render_all(scene_clips("vae/unseen", 12, held_out=True), 1)
    vae = channels_last(new_vae().to(run.device))
    channels: int = vae.config.z_dim
    state = TrainingState({"vae": vae}, vae_optimizers(vae, plan))

    def step(index: int) -> tuple[torch.Tensor, Figures]:
        rng = randomness("vae", index)
        length = plan.frames_at(index)
        if length == plan.lengths[-1][1] and index % plan.whole_every == 0:
            frames = whole_batch(clips, max(1, plan.batch // 8), rng)
        else:
            frames = crop_batch(clips, plan.batch * min(3, 9 // length), length, rng)
        pixels = frames_to_tensor(frames, run.device)
        with run.autocast(convolutions=True):
            latents = encode_clip(vae, pixels)[:, :channels]
            noisy = latents
            if index >= plan.noise_after * plan.steps:
                generator = torch_randomness("vae", index, run.device)
                noise = torch.randn(latents.shape, generator=generator, device=run.device)
                noisy = latents + POSTERIOR_STD * latents.detach().std((0, 2, 3, 4), keepdim=True) * noise
            decoded = decode_clip(vae, noisy)
        loss, error = reconstruction_loss(decoded.float(), pixels)
        loss = loss + 1e-5 * latents.float().square().mean()
        return loss, {"psnr": 10 * torch.log10(4 / error.detach()), "frames": float(length)}

    def preview(index: int) -> Figures:
        pairs, scores = [], []
        for clip in unseen:
            decoded = _round_trip(vae, clip, run)
            scores.append(psnr(decoded, clip))
            pairs += [_middle(clip), _middle(decoded)]
        save_sheet(run.out / "preview" / f"vae-{index:06d}.png", pairs[:16])
        stills = [psnr(_round_trip(vae, clip[:1], run), clip[:1]) for clip in unseen]
        return {
            "unseen_psnr": float(np.mean(scores)),
            "worst_psnr": float(np.min(scores)),
            "still_psnr": float(np.mean(stills)),
        }

    return train_steps("vae", run, plan.steps, state, step, preview)


def vae_optimizers(vae: AutoencoderKLWan, plan: VaeTraining) -> list[torch.optim.Optimizer]:
    kernels = [p for p in vae.parameters() if p.ndim >= 4 and p.numel() > 256]
    chosen = {id(p) for p in kernels}
    others = [p for p in vae.parameters() if id(p) not in chosen]
    return [
        Muon(kernels, plan.kernel_rate),
        torch.optim.AdamW(others, plan.rate, (0.9, 0.99), weight_decay=0.0),
    ]


def crop_batch(clips: Sequence[np.ndarray], batch: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """(B, length, 32, 32, 3): mostly around the object, where the detail is; a quarter in other colours."""
    crops = np.empty((batch, length, _CROP, _CROP, 3), np.uint8)
    for index in range(batch):
        clip = clips[int(rng.integers(len(clips)))]
        frames, height, width, _ = clip.shape
        start = int(rng.integers(frames - length + 1))
        window = clip[start : start + length]
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() < 0.85:
            seen = window[int(rng.integers(length))]
            rows, columns = np.nonzero((seen != seen[0, 0]).any(-1))
            x, y = columns.mean() + rng.uniform(-16, 16), rows.mean() + rng.uniform(-16, 16)
        left = int(np.clip(x - _CROP / 2, 0, width - _CROP))
        top = int(np.clip(y - _CROP / 2, 0, height - _CROP))
        crop = window[:, top : top + _CROP, left : left + _CROP]
        crop = crop[:, :, ::-1] if rng.random() < 0.5 else crop
        crop = crop[::-1] if rng.random() < 0.3 else crop
        crops[index] = crop[..., rng.permutation(3)] if rng.random() < 0.25 else crop
    return crops


def whole_batch(clips: Sequence[np.ndarray], batch: int, rng: np.random.Generator) -> np.ndarray:
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    same = [clip for clip in clips if clip.shape[1:3] == (height, width)] or [clips[0]]
    return np.stack([same[int(rng.integers(len(same)))] for _ in range(batch)])


def reconstruction_loss(decoded: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, mean squared error): squared error for the PSNR, absolute and gradient error for crisp edges."""
    error = functional.mse_loss(decoded, pixels)
    edges = sum(functional.l1_loss(decoded.diff(dim=axis), pixels.diff(dim=axis)) for axis in (-1, -2))
    return error + 0.1 * functional.l1_loss(decoded, pixels) + 0.1 * edges, error


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of two uint8 clips, in dB."""
    error = np.square(one.astype(np.float64) - other).mean()
    return 99.0 if error == 0 else 20 * math.log10(255) - 10 * math.log10(error)


def channels_last(module: AutoencoderKLWan) -> AutoencoderKLWan:
    """Convolution weights in the layout that oneDNN and cuDNN want; the numbers stay."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
    return module


@torch.no_grad()
def folded_vae(run: Run) -> AutoencoderKLWan:
    """The averaged weights of the VAE stage with its latent statistics folded in."""
    vae = new_vae().to(run.device).eval().requires_grad_(False)
    saved = torch.load(run.checkpoint("vae"), map_location=run.device, weights_only=True)
    vae.load_state_dict(saved["averages"]["vae"])
    mean, std = _latent_statistics(vae, run, saved["step"])
    fold_latent_statistics(vae, mean, std, POSTERIOR_STD)
    return vae


def _latent_statistics(vae: AutoencoderKLWan, run: Run, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each channel over training clips; remembered, for every later stage asks again."""
    path = run.out / "latents" / f"statistics-vae{step}.pt"
    if not path.exists():
        flat = []
        for clip in scene_clips("vae/statistics", run.statistics_clips):
            pixels = frames_to_tensor(clip.frames()[None], run.device)
            flat.append(encode_clip(vae, pixels)[0, : vae.config.z_dim].flatten(1))
        joined = torch.cat(flat, dim=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"mean": joined.mean(1), "std": joined.std(1)}, path)
        log.info("vae %d: latent std %.3f to %.3f", step, joined.std(1).min(), joined.std(1).max())
    saved = torch.load(path, map_location=run.device, weights_only=True)
    return saved["mean"], saved["std"]


def _middle(clip: np.ndarray, side: int = 64) -> np.ndarray:
    top, left = (clip.shape[1] - side) // 2, (clip.shape[2] - side) // 2
    return clip[:, top : top + side, left : left + side]


def _round_trip(vae: AutoencoderKLWan, clip: np.ndarray, run: Run) -> np.ndarray:
    with run.autocast(convolutions=True):
        latents = encode_clip(vae, frames_to_tensor(clip[None], run.device))[:, : vae.config.z_dim]
        frames: np.ndarray = tensor_to_frames(decode_clip(vae, latents))[0]
    return frames
