"""The encoder of UMT5, with the parameters of transformers' UMT5EncoderModel and the same results.

Importing transformers takes longer than importing torch, and this is all that a run needs of it. Each layer
has position biases of its own, which is how UMT5 differs from T5 (arXiv:2304.09151). Source of the formulas:
T5 1.1, mesh_tensorflow/transformer/transformer_layers.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from .empty_layers import Embedding, Linear

__all__ = ["KEPT_IN_FP32", "Umt5Encoder"]

KEPT_IN_FP32 = ("wo",)  # overflow in fp16
_DEFAULTS = {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
_HEADROOM = 1000  # below the largest number of fp16, to which Inf is clamped


class Umt5Encoder(nn.Module):
    """Encodes tokens (B, L) into (B, L, d_model). Its table has two names, `shared` and one in the encoder.

    config: of its config.json. Raises KeyError for what it lacks, ValueError for another feed-forward layer.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        config = {**_DEFAULTS, **config}
        if config.get("feed_forward_proj", "gated-gelu") != "gated-gelu":
            raise ValueError(
                f"feed_forward_proj is {config['feed_forward_proj']}; that of UMT5 is gated-gelu"
            )
        self.shared = Embedding(config["vocab_size"], config["d_model"])
        self.encoder = _Stack(config, self.shared)

    def forward(self, tokens: Tensor) -> Tensor:
        encoded: Tensor = self.encoder(tokens)
        return encoded


class _Stack(nn.Module):
    def __init__(self, config: Mapping[str, Any], table: nn.Embedding) -> None:
        super().__init__()
        self.embed_tokens = table
        self.block = nn.ModuleList(_Block(config) for _ in range(config["num_layers"]))
        self.final_layer_norm = _Norm(config)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.embed_tokens(tokens)
        for block in self.block:
            hidden = block(hidden)
        normed: Tensor = self.final_layer_norm(hidden)
        return normed


class _Block(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.layer = nn.ModuleList((_AttentionLayer(config), _FeedForwardLayer(config)))

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = _clamped(hidden + layer(hidden))
        return hidden


class _AttentionLayer(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.SelfAttention = _Attention(config)
        self.layer_norm = _Norm(config)

    def forward(self, hidden: Tensor) -> Tensor:
        update: Tensor = self.SelfAttention(self.layer_norm(hidden))
        return update


class _FeedForwardLayer(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.DenseReluDense = _GatedGelu(config)
        self.layer_norm = _Norm(config)

    def forward(self, hidden: Tensor) -> Tensor:
        update: Tensor = self.DenseReluDense(self.layer_norm(hidden))
        return update


class _Attention(nn.Module):
    """Attention of all tokens to all, with a bias for each distance. Scores are not scaled, as in T5."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, self.heads = config["d_model"], config["num_heads"]
        inner = self.heads * config["d_kv"]
        self.q, self.k, self.v = (Linear(width, inner, bias=False) for _ in range(3))
        self.o = Linear(inner, width, bias=False)
        self.farthest = config["relative_attention_max_distance"]
        self.relative_attention_bias = Embedding(config["relative_attention_num_buckets"], self.heads)

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = (
            torch.unflatten(linear(hidden), 2, (self.heads, -1)).transpose(1, 2)
            for linear in (self.q, self.k, self.v)
        )
        bias = self._bias(hidden.shape[1], hidden.device)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        update: Tensor = self.o(attended.transpose(1, 2).flatten(2))
        return update

    def _bias(self, length: int, device: torch.device) -> Tensor:
        """Return (1, heads, L, L): by the bucket of each distance from the token that looks."""
        position = torch.arange(length, device=device)
        ahead = position[None, :] - position[:, None]
        one_way = self.relative_attention_bias.num_embeddings // 2
        exact = one_way // 2
        distance = ahead.abs()
        ratio = torch.log(distance.float() / exact) / math.log(self.farthest / exact) * (one_way - exact)
        far = (exact + ratio.to(torch.long)).clamp(max=one_way - 1)
        bucket = (ahead > 0).to(torch.long) * one_way + torch.where(distance < exact, distance, far)
        bias: Tensor = self.relative_attention_bias(bucket)
        return bias.permute(2, 0, 1)[None]


class _GatedGelu(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = (Linear(config["d_model"], config["d_ff"], bias=False) for _ in range(2))
        self.wo = Linear(config["d_ff"], config["d_model"], bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        wide = self.wi_0(hidden)
        # GELU with tanh, in the steps of the code that the weights were made with.
        gate = 0.5 * wide * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (wide + 0.044715 * wide.pow(3.0))))
        update: Tensor = self.wo((gate * self.wi_1(hidden)).to(self.wo.weight.dtype))
        return update


class _Norm(nn.Module):
    """RMS norm, with the mean of the squares in float32."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config["d_model"]))
        self.eps = config.get("layer_norm_epsilon", 1e-6)

    def forward(self, hidden: Tensor) -> Tensor:
        squares = hidden.to(torch.float32).pow(2).mean(-1, keepdim=True)
        normed: Tensor = self.weight * (hidden * torch.rsqrt(squares + self.eps)).to(self.weight.dtype)
        return normed


def _clamped(hidden: Tensor) -> Tensor:
    """Return `hidden` without Inf, which only fp16 has."""
    if hidden.dtype != torch.float16:
        return hidden
    most = torch.finfo(torch.float16).max
    bound = torch.where(torch.isinf(hidden).any(), most - _HEADROOM, most)
    return torch.clamp(hidden, min=-bound, max=bound)
