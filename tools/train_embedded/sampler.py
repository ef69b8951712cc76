"""The shortest loop that draws a clip with the two experts, for previews during training."""

from __future__ import annotations

from itertools import pairwise

import torch
from diffusers import WanTransformer3DModel

from .flow import sigma_grid

__all__ = ["draw"]


@torch.no_grad()
def draw(
    high: WanTransformer3DModel | None,
    low: WanTransformer3DModel | None,
    noise: torch.Tensor,
    text: torch.Tensor,
    empty: torch.Tensor,
    boundary: float,
    steps: int = 20,
    guidance: float = 3.5,
    condition: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalised latents of `noise`'s shape. Without the low expert, the high one's last guess.

    `text`, `empty`: (B, tokens, C); `condition`: (B, 20, t, h, w) for image-to-video.
    """
    sigmas = sigma_grid(steps)
    x, clean = noise, noise
    for now, after in pairwise(sigmas):
        expert = high if now >= boundary else low
        if expert is None:
            return clean
        seen = x if condition is None else torch.cat([x, condition], dim=1)
        timestep = torch.full((len(x),), 1000.0 * float(now), device=x.device)
        said = expert(seen, timestep, text, return_dict=False)[0].float()
        unsaid = expert(seen, timestep, empty, return_dict=False)[0].float()
        velocity = unsaid + guidance * (said - unsaid)
        clean = x - float(now) * velocity
        x = x + float(after - now) * velocity
    return x
