"""Decodes a shot that goes on from the one before as one video with it, so that their join moves less."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from ..loading.host_model import has_whole_vae
from ..video.frame_stream import close
from .frame_stages import decode
from .memory_estimate import vae_tiling
from .prepared_run import Run

__all__ = ["decode_shot", "ending_of"]

# Latent frames. With all nine of a drawn ball, a frame of the embedded VAE would differ by 0.07 levels of 255
# on average, and a pixel by 2. With random latents it is 0.5, and 4.5.
_HISTORY = 4


def ending_of(run: Run, latents: Tensor) -> Tensor | None:
    """Return the last latent frames of a shot, for `decode_shot` of the one that goes on from it.

    latents: (1, C, T, H/8, W/8). None if the shot ends within a latent frame.
    """
    whole = run.plan.frames_delivered == (latents.shape[2] - 1) * run.model.family.vae_stride[0] + 1
    return latents[:, :, -_HISTORY:].clone() if whole else None


def decode_shot(run: Run, latents: Tensor, before: Tensor | None, given: int) -> Iterator[Tensor]:
    """Decode the `latents` (1, C, T, H/8, W/8) of a shot. Yields frames (3, H, W) in [-1, 1].

    before: the ending of the shot that this one goes on from; None if its VAE is to see nothing of it.
    given:  how many frames are repeated from that shot, 4 n + 1. They come first, and see only this shot.

    The Wan VAE is causal, and decodes its first latent frame without a past. The frames after those that are
    given get the past that is shown before them: `before`, in place of the latents of the frames given.
    """
    count = run.plan.frames_delivered
    if before is None or before.shape[3:] != latents.shape[3:] or before.shape[1] != latents.shape[1]:
        yield from _decoded(run, latents, count)
        return
    stride = run.model.family.vae_stride[0]
    start = (given - 1) // stride + 1
    known = (before.shape[2] - 1) * stride + 1
    yield from _decoded(run, latents[:, :, :start], given)
    together = torch.cat([before.to(latents), latents[:, :, start:]], 2)
    going_on = _decoded(run, together, known + count - given)
    try:
        yield from islice(going_on, known, None)
    finally:
        close(going_on)


def _decoded(run: Run, latents: Tensor, frames: int) -> Iterator[Tensor]:
    shape = tuple(latents.shape[1:])
    tiling = None if has_whole_vae(run.model) else vae_tiling(run.model, "decode", shape, run.memory)
    return decode(run.model, latents, run.memory, run.progress, frames=frames, tiling=tiling)
