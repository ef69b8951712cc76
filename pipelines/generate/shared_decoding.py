"""Whether the ranks of a run decode its video together, and what those other than rank 0 do for it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..loading.host_model import has_whole_vae
from ..parallel.rank_group import RankGroup
from ..request.result_formats import CODECS_OF
from .frame_stages import decode
from .memory_estimate import vae_tiling
from .prepared_run import Run

__all__ = ["decoding_group", "help_decoding"]


def decoding_group(run: Run, latents: Tensor) -> RankGroup | None:
    """Return the ranks that decode together; None if rank 0 decodes alone. Every rank must ask.

    They share the rows of whole frames. An image is one frame, and is not worth it. Tiles, for which a rank
    with little memory asks, and fewer rows of latents than ranks are left to rank 0.
    """
    if run.ranks is None or run.plan.output not in CODECS_OF or has_whole_vae(run.model):
        return None
    group = run.ranks.everyone
    able = vae_tiling(run.model, "decode", latents.shape, run.memory) is None
    said = torch.tensor([able and latents.shape[-2] >= group.size], device=run.memory.device)
    answers = group.exchange([said] * group.size, [said.shape] * group.size)
    return group if all(bool(answer) for answer in answers) else None


def help_decoding(run: Run, latents: Tensor) -> None:
    """Decode the rows of this rank, which is not rank 0, if the ranks decode together."""
    group = decoding_group(run, latents)
    if group is None:
        return
    frames = run.plan.frames_delivered
    for _ in decode(run.model, latents, run.memory, run.progress, frames=frames, group=group):
        run.progress.check()
