"""Makes the latents that sampling starts from: zeros, or the encoded input image or clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..device.memory import Memory
from ..progress import Progress
from ..request.timing import input_fps
from ..vae.standalone import HasVae
from ..video.clip import clip_frames, frames_of_image
from .frame_stages import encode
from .prepared_run import Run
from .render import with_tile_fallback
from .stages import PURE_NOISE_FROM

__all__ = ["encode_with_tile_fallback", "input_latents"]


def input_latents(run: Run) -> Tensor:
    """Encode the input image or video. Returns latents (1, C, T, H/8, W/8) in VAE space, float32, on the CPU.

    Returns zeros when there is no such input, or when a strength of 1 leaves nothing of it.
    """
    plan, files = run.plan, run.inputs.files
    if not hasattr(run.request, "strength") or plan.sigmas[plan.start_step] >= PURE_NOISE_FROM:
        return torch.zeros(1, *plan.latent_shape)
    size = {"width": plan.width, "height": plan.height}
    fps, count = (
        input_fps(dict(run.request)),
        {"count": plan.frames_delivered, "padded": plan.frames_generated},
    )

    def frames() -> Iterator[Tensor]:
        if "video_url" in files:
            return clip_frames(files["video_url"].content, fps=fps, **count, **size)
        return frames_of_image(files["image_url"].content, **size)

    return encode_with_tile_fallback(run.model, frames, plan.latent_shape, run.memory, run.progress)


def encode_with_tile_fallback(
    model: HasVae,
    frames: Callable[[], Iterator[Tensor]],
    latent_shape: Sequence[int],
    memory: Memory,
    progress: Progress,
) -> Tensor:
    """Call `stages.encode` with the largest tiles that fit, and smaller ones when memory runs out.

    frames: called once per attempt, because each attempt reads them from the start.
    """
    return with_tile_fallback(
        lambda tiling: encode(model, frames(), latent_shape, memory, progress, tiling=tiling),
        model,
        latent_shape,
        memory,
        "encoding",
    )
