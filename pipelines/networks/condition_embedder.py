"""Projects timestep, text and image to the width of the Wan transformer, with diffusers' parameter names."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from .block_layers import FeedForwardLayers
from .empty_layers import Linear

__all__ = ["ConditionEmbedder"]

_LONGEST_PERIOD = (
    10_000  # of the sinusoids: sinusoidal_embedding_1d of Wan-Video/Wan2.2, wan/modules/model.py
)


class ConditionEmbedder(nn.Module):
    """The embeddings that all blocks share.

    image_width: of CLIP's features; None for a model without.
    image_tokens: those of first and last image, with positions of their own; None without.
    """

    def __init__(
        self,
        width: int,
        freq_dim: int,
        text_width: int,
        image_width: int | None = None,
        image_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.time_embedder = _TwoLayers(freq_dim, width, nn.SiLU())
        self.time_proj = Linear(width, 6 * width)
        self.text_embedder = _TwoLayers(text_width, width, nn.GELU("tanh"))
        self.image_embedder = (
            None if image_width is None else _ImageEmbedder(image_width, width, image_tokens)
        )

    def forward(
        self,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None,
        timestep_seq_len: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the time embedding (B, R, D), its modulation (B, R, 6 D), and the tokens of text and image.

        timestep: (B R,), R for each of the batch, which is `timestep_seq_len`.
        """
        text, image = encoder_hidden_states, encoder_hidden_states_image
        sinusoids = torch.unflatten(_sinusoids(timestep, self.freq_dim), 0, (-1, timestep_seq_len))
        embedded = self.time_embedder(sinusoids.to(self.time_embedder.linear_1.weight.dtype)).type_as(text)
        modulation = self.time_proj(F.silu(embedded))
        if image is not None and self.image_embedder is not None:
            image = self.image_embedder(image)
        return embedded, modulation, self.text_embedder(text), image


class _TwoLayers(nn.Module):
    def __init__(self, inputs: int, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = Linear(inputs, width), Linear(width, width)
        self.activation = activation

    def forward(self, hidden: Tensor) -> Tensor:
        embedded: Tensor = self.linear_2(self.activation(self.linear_1(hidden)))
        return embedded


class _ImageEmbedder(nn.Module):
    def __init__(self, inputs: int, width: int, tokens: int | None) -> None:
        super().__init__()
        self.norm1, self.norm2 = _Fp32LayerNorm(inputs), _Fp32LayerNorm(width)
        self.ff = FeedForwardLayers(inputs, inputs, width, "none")
        self.pos_embed = None if tokens is None else nn.Parameter(torch.zeros(1, tokens, inputs))

    def forward(self, features: Tensor) -> Tensor:
        if self.pos_embed is not None:  # of two images, one after the other
            features = features.view(-1, 2 * features.shape[1], features.shape[2]) + self.pos_embed
        embedded: Tensor = self.norm2(self.ff(self.norm1(features)))
        return embedded


class _Fp32LayerNorm(nn.LayerNorm):
    def forward(self, hidden: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(hidden.float(), self.normalized_shape, weight, bias, self.eps).to(hidden.dtype)


def _sinusoids(timestep: Tensor, width: int) -> Tensor:
    """Return cosines and sines of the timesteps (N,), each at half of `width` frequencies: (N, width)."""
    half = width // 2
    exponent = -math.log(_LONGEST_PERIOD) * torch.arange(half, dtype=torch.float32, device=timestep.device)
    angles = timestep[:, None].float() * torch.exp(exponent / half)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
