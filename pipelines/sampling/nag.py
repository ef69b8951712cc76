"""The input of normalized attention guidance (NAG); `networks.attention_guidance` computes it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["AttentionGuidance"]


class AttentionGuidance(NamedTuple):
    """The negative text that the cross-attention is moved away from, and how strongly.

    negative: (1 or B, L, D) UMT5 embeddings of what to avoid, padding zeroed.
    scale, tau, alpha: as in `plan.extra_guidance.ExtraGuidance`, of one expert.
    """

    negative: Tensor
    scale: float
    tau: float
    alpha: float

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> AttentionGuidance:
        return self._replace(negative=self.negative.to(device=device, dtype=dtype))
