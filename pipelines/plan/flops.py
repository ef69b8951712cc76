"""Counts the floating-point operations of the experts in a run, exactly and without running it.

One multiplication and one addition are two FLOP. torch's own counter agrees within 0.01 % on full-size
networks of diffusers (`tests/plan/test_flops.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["SIZES", "Flops", "NetworkSize", "forward_flops", "size_of", "tokens_of"]

TEXT_TOKENS = 512  # every Wan model pads its prompt to this length
TEXT_WIDTH = 4096  # UMT5-XXL
_FREQUENCIES = 256  # of the sinusoidal timestep embedding


@dataclass(frozen=True)
class NetworkSize:
    """The size of a Wan transformer.

    width: of a token. ffn: width of the feed-forward layer. layers: number of blocks.
    """

    width: int
    ffn: int
    layers: int
    channels_in: int
    channels_out: int


# {family: size}, from the official configurations that `families` cites.
SIZES: dict[str, NetworkSize] = {
    "wan2.2-t2v-a14b": NetworkSize(5120, 13824, 40, 16, 16),
    "wan2.2-i2v-a14b": NetworkSize(5120, 13824, 40, 36, 16),
    "wan2.2-s2v-14b": NetworkSize(5120, 13824, 40, 16, 16),
    "wan2.2-ti2v-5b": NetworkSize(3072, 14336, 30, 48, 48),
    "wan2.1-t2v-14b": NetworkSize(5120, 13824, 40, 16, 16),
    "wan2.1-t2v-1.3b": NetworkSize(1536, 8960, 30, 16, 16),
    "wan2.1-i2v-14b": NetworkSize(5120, 13824, 40, 36, 16),
    "wan2.1-flf2v-14b": NetworkSize(5120, 13824, 40, 36, 16),
}


@dataclass(frozen=True)
class Flops:
    """FLOP of one forward.

    products:  matrix products with weights.
    attention: products of tokens with tokens, and of tokens with the text.
    """

    products: float
    attention: float

    @property
    def total(self) -> float:
        return self.products + self.attention


def size_of(config: Mapping[str, Any]) -> NetworkSize:
    """Read the size from the configuration of the network. A missing key has the value of the 14B models."""
    return NetworkSize(
        config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128),
        config.get("ffn_dim", 13824),
        config.get("num_layers", 40),
        config.get("in_channels", 16),
        config.get("out_channels", None) or config.get("in_channels", 16),
    )


def tokens_of(latent_shape: Sequence[int]) -> int:
    """Return the number of tokens of latents (..., T, H/8, W/8). A token is 1 x 2 x 2 latent values."""
    frames, rows, columns = latent_shape[-3:]
    return frames * (rows // 2) * (columns // 2)


def forward_flops(size: NetworkSize, tokens: int) -> Flops:
    """Count one forward of one clip of `tokens` tokens, with a text of full length.

    Per token and block: query, key, value and output of the self-attention (8 d^2), query and output of the
    cross-attention (4 d^2), and the feed-forward layers (4 d f). Per text token and block: key and value
    (4 d^2).
    """
    d, f = size.width, size.ffn
    products = size.layers * (12 * d * d + 4 * d * f) * tokens + size.layers * 4 * d * d * TEXT_TOKENS
    products += 2 * tokens * d * 4 * (size.channels_in + size.channels_out)
    products += 2 * TEXT_TOKENS * (TEXT_WIDTH * d + d * d) + 2 * (_FREQUENCIES * d + d * d + 6 * d * d)
    attention = size.layers * 4 * d * tokens * (tokens + TEXT_TOKENS)
    return Flops(float(products), float(attention))
