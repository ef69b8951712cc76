"""The layers of a Wan transformer block, in diffusers' names. `block.py` computes with them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from .empty_layers import Linear

__all__ = ["AttentionLayers", "BlockLayers", "FeedForwardLayers"]


class AttentionLayers(nn.Module):
    """The projections and norms of one attention, with those of an image where `image_width` is given."""

    def __init__(self, width: int, heads: int, eps: float, image_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([Linear(width, width)])
        self.norm_q, self.norm_k = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.add_k_proj = self.add_v_proj = None
        if image_width is not None:
            self.add_k_proj, self.add_v_proj = Linear(image_width, width), Linear(image_width, width)
            self.norm_added_k = nn.RMSNorm(width, eps)


class FeedForwardLayers(nn.Module):
    """Two linear layers with GELU between them. The second is number 2, as in diffusers.

    approximate: of `torch.nn.GELU`.
    """

    def __init__(self, width: int, inner: int, out: int, approximate: str) -> None:
        super().__init__()
        self.net = nn.ModuleList([_Widened(width, inner, approximate), nn.Identity(), Linear(inner, out)])

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.net:
            hidden = layer(hidden)
        return hidden


class _Widened(nn.Module):
    def __init__(self, width: int, inner: int, approximate: str) -> None:
        super().__init__()
        self.proj, self.approximate = Linear(width, inner), approximate

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.proj(hidden), approximate=self.approximate)


class BlockLayers(nn.Module):
    """All parameters of a block.

    normed_text: whether the cross-attention has a norm of its own. image_width: as for `AttentionLayers`.
    """

    def __init__(
        self,
        width: int,
        ffn_width: int,
        heads: int,
        eps: float,
        *,
        normed_text: bool = True,
        image_width: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.attn1 = AttentionLayers(width, heads, eps)
        self.attn2 = AttentionLayers(width, heads, eps, image_width)
        self.norm2 = nn.LayerNorm(width, eps) if normed_text else nn.Identity()
        self.ffn = FeedForwardLayers(width, ffn_width, width, "tanh")
        self.norm3 = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, width))
