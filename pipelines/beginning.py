"""What sampling starts from: nothing, or the latents of the picture or clip that came in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .given import Given
from .media.clip import clip_frames, picture_frames
from .memory import Memory
from .models.lone_vae import HasVae
from .plan.plan import Plan
from .progress import Progress
from .render import with_room
from .request import WanRequest
from .request.timing import input_fps
from .stages import PURE_NOISE_FROM, encode

__all__ = ["encode_with_room", "starting_latents"]


def starting_latents(
    model: HasVae, request: WanRequest, plan: Plan, given: Given, memory: Memory, progress: Progress
) -> Tensor:
    """Latents (1, C, T, H/8, W/8) in VAE space, float32, CPU, of the input that is drawn over.

    Zeros without such an input, and where a strength of 1 leaves nothing of it.
    """
    if not hasattr(request, "strength") or plan.sigmas[plan.start_step] >= PURE_NOISE_FROM:
        return torch.zeros(1, *plan.latent_shape)
    size = {"width": plan.width, "height": plan.height}
    if "video_url" in given.files:
        fps, video = input_fps(dict(request)), given.files["video_url"].content
        count = {"count": plan.frames_delivered, "padded": plan.frames_generated}
        return encode_with_room(
            model, lambda: clip_frames(video, fps=fps, **count, **size), plan.latent_shape, memory, progress
        )
    picture = given.files["image_url"].content
    return encode_with_room(
        model, lambda: picture_frames(picture, **size), plan.latent_shape, memory, progress
    )


def encode_with_room(
    model: HasVae,
    frames: Callable[[], Iterator[Tensor]],
    latent_shape: Sequence[int],
    memory: Memory,
    progress: Progress,
) -> Tensor:
    """`stages.encode` with the largest tiles that fit; `frames` starts them anew when memory runs out."""
    return with_room(
        lambda tiling: encode(model, frames(), latent_shape, memory, progress, tiling=tiling),
        model,
        latent_shape,
        memory,
        "encoding",
    )
