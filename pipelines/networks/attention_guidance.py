"""Normalized attention guidance (NAG): a negative prompt that acts within the cross-attention.

Chen et al., "Normalized Attention Guidance: Universal Negative Guidance for Diffusion Models",
arxiv.org/abs/2505.21179. Classifier-free guidance needs a second forward, and distilled models of few steps
run without it; NAG needs only a second cross-attention.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["guided_attention"]

_AT_ONCE = 1024  # tokens at a time: float32 copies of all would raise the peak memory of a block


def guided_attention(positive: Tensor, negative: Tensor, scale: float, tau: float, alpha: float) -> Tensor:
    """Return the features of the positive prompt, moved away from those of the negative one.

    positive, negative: (B, N, D), the cross-attention of the same tokens to either prompt.
    scale: 1 is off. As in the authors' code it is the paper's factor + 1.
    tau:   largest ratio of the L1 norm of a token's extrapolated features to that of `positive`.
    alpha: share of the extrapolated features in the result, 0 to 1.

    Returns alpha * n * (scale * positive - (scale - 1) * negative) + (1 - alpha) * positive, where n is at
    most 1 and keeps the ratio. Computed in float32, rounded once to the dtype of `positive`.
    """
    result = torch.empty_like(positive)
    for start in range(0, positive.shape[1], _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        plain, avoided = positive[:, here].float(), negative[:, here].float()
        extrapolated = torch.lerp(avoided, plain, scale)
        allowed = tau * _l1_norm(plain)
        tiny = torch.finfo(torch.float32).tiny
        kept = (allowed / _l1_norm(extrapolated).clamp_min(tiny)).clamp_max(1)
        result[:, here] = torch.lerp(plain, extrapolated * kept, alpha)
    return result


def _l1_norm(features: Tensor) -> Tensor:
    """(B, N, D) -> (B, N, 1)."""
    return features.abs().sum(-1, keepdim=True)
