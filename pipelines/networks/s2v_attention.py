"""One attention of the speech model: of its tokens to each other, to the text, or to the sound."""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.attention import attend_with
from ..parallel.token_share import TokenShare
from .block_layers import AttentionLayers

__all__ = ["attended_by"]


def attended_by(
    layers: AttentionLayers,
    hidden: Tensor,
    context: Tensor | None = None,
    rotary: tuple[Tensor, Tensor] | None = None,
    share: TokenShare | None = None,
) -> Tensor:
    """Return what tokens (B, N, D) find in `context` (B, L, D), or in themselves.

    rotary: (cos, sin) of (1, N, 1, head width) each, float32, each value twice; None for no positions.
    share:  `hidden` and `rotary` are of this rank's tokens, which attend to all; None if it has all.
    """
    looked_at = hidden if context is None else context
    query, key, value = (
        torch.unflatten(made, 2, (layers.heads, -1))
        for made in (
            layers.norm_q(layers.to_q(hidden)),
            layers.norm_k(layers.to_k(looked_at)),
            layers.to_v(looked_at),
        )
    )
    if rotary is not None:
        query, key = _turned(query, *rotary), _turned(key, *rotary)
    attend = attend_with("sdpa")
    found = attend(query, key, value) if share is None else share.attention(attend, query, key, value)
    projected: Tensor = layers.to_out[0](found.flatten(2).type_as(hidden))
    return projected


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    first, second = torch.unflatten(heads, -1, (-1, 2)).unbind(-1)
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return rotated.flatten(-2).type_as(heads)
