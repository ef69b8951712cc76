"""The configuration of a Wan transformer, as diffusers writes it. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["TransformerConfig"]


@dataclass(frozen=True)
class TransformerConfig:
    """What the layers of a Wan transformer follow from. The defaults are for what a config.json leaves out.

    image_dim, added_kv_proj_dim: widths of CLIP's features and of their keys; None for a model without.
    pos_embed_seq_len: tokens with positions of their own, of first and last image together.
    """

    patch_size: tuple[int, int, int] = (1, 2, 2)
    num_attention_heads: int = 40
    attention_head_dim: int = 128
    in_channels: int = 16
    out_channels: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    ffn_dim: int = 13824
    num_layers: int = 40
    cross_attn_norm: bool = True
    eps: float = 1e-6
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None
    rope_max_seq_len: int = 1024
    pos_embed_seq_len: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> TransformerConfig:
        """Read a config.json. What this network does not have is ignored, as diffusers does."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in config.items() if name in known})

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim
