"""Attention over a text padded to 512 tokens at the price of its real length.

Wan attends to the padding, unmasked. All padding tokens are equal, so one of them with log(count) added to
its score stands for all: the same numbers as the 512-token form, which the tests compare.
"""

from __future__ import annotations

import math

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from torch.nn import functional

from .vocabulary import MAX_TOKENS

__all__ = ["PaddedTextAttention", "attend_padded", "mute_padding"]


class PaddedTextAttention:
    """Cross-attention processor: the last text token is padding and counts for all that are left out."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        *_unused: torch.Tensor | None,
    ) -> torch.Tensor:
        tokens = encoder_hidden_states.shape[1]
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        key = attn.norm_k(attn.to_k(encoder_hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        value = attn.to_v(encoder_hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        bias = query.new_zeros(1, 1, 1, tokens)
        bias[..., -1] = math.log(MAX_TOKENS - tokens + 1)
        out = functional.scaled_dot_product_attention(query, key, value.to(query.dtype), attn_mask=bias)
        mixed: torch.Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return mixed


def attend_padded(expert: WanTransformer3DModel) -> WanTransformer3DModel:
    """Use the short form in every block; every text must then end in at least one padding token."""
    for block in expert.blocks:
        block.attn2.set_processor(PaddedTextAttention())
    return expert


@torch.no_grad()
def mute_padding(expert: WanTransformer3DModel) -> None:
    """Start with queries that look away from the zero token.

    Else 490 padding tokens take nearly all the attention of a new network, and the words start thirty times
    too quiet. The padding's key is the bias alone, so opposite biases of query and key give it a low score.
    """
    for layer in (
        expert.condition_embedder.text_embedder.linear_1,
        expert.condition_embedder.text_embedder.linear_2,
    ):
        layer.bias.zero_()
    for block in expert.blocks:
        direction = torch.sign(torch.randn_like(block.attn2.to_q.bias))
        block.attn2.to_q.bias.copy_(direction)
        block.attn2.to_k.bias.copy_(-0.1 * direction)
        block.attn2.to_v.bias.zero_()
