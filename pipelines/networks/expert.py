"""Builds a Wan transformer on the meta device from its configuration, and estimates its working memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..kernels.choices import FloatChoices
from ..parallel.rank_group import RankGroup
from ..plan.riflex import Riflex
from ..sampling.cached_forward import BlockCache
from ..sampling.engine import Condition
from ..weights.recipe import DTypeRule, Recipe, keeping_fp32
from ..weights.stored_parts import stored_dtypes
from .empty_layers import empty_network
from .network_kind import NetworkKind
from .step_cache_hook import with_step_cache
from .transformer import OwnTransformer, replace_transformer_forward
from .transformer_config import TransformerConfig

__all__ = [
    "EXPERT",
    "expert_dtypes",
    "expert_kind",
    "forward_bytes",
    "meta_expert",
    "token_count",
    "velocity_of",
]


_KEPT_IN_FP32 = ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")  # as diffusers does


def velocity_of(
    network: Any,
    latents: Tensor,
    timestep: float,
    condition: Condition,
    dtype: torch.dtype,
    cache: BlockCache | None = None,
    riflex: Riflex | None = None,
    *,
    ranks: RankGroup | None = None,
) -> Tensor:
    """Return the velocity that a Wan transformer predicts, float32. latents: float32; it computes in `dtype`.

    cache:  called after the first block and before the last; None computes every block.
    riflex: changes the positions in time; None leaves them as they are.
    ranks:  share the tokens; None computes all of them here.
    """
    device = latents.device
    channels = () if condition.channels is None else (condition.channels,)
    entering = torch.cat([latents, *channels], dim=1).to(dtype)
    text = condition.text.to(device=device, dtype=dtype)
    features = None if condition.clip_features is None else condition.clip_features.to(dtype)
    if features is not None and network.config.pos_embed_seq_len is not None:
        # First and last image have positions of their own.
        features = features.view(2, -1, features.shape[-1])
    time = torch.tensor([timestep], dtype=torch.float32, device=device)
    options: dict[str, Any] = {"return_dict": False}
    if riflex is not None:
        options["riflex"] = riflex
    if ranks is not None:
        options["ranks"] = ranks
    if condition.attention is not None:
        options["guidance"] = condition.attention.to(device, dtype)
    if condition.seen is not None:
        options["seen"] = condition.seen
    with with_step_cache(network, cache):
        if condition.clean_frames is None:
            velocity: Tensor = network(entering, time, text, features, **options)[0]
            return velocity.float()
        sampled = ~condition.clean_frames
        times = (time * sampled)[None, :: network.config.patch_size[0]]
        velocity = network(entering, times, text, features, **options)[0]
        return velocity.float() * sampled.view(1, 1, -1, 1, 1)


def expert_dtypes(dtype: torch.dtype) -> DTypeRule:
    """Return `dtype`, but float32 for norms, modulation tables and the time embedder, as diffusers does.

    Numbers that layers compute with as stored keep their own.
    """
    usual = keeping_fp32(_KEPT_IN_FP32, dtype)
    return lambda name: stored_dtypes(name) or usual(name)


def forward_bytes(
    config: Mapping[str, Any], latent_shape: Sequence[int], dtype: torch.dtype, chunk_tokens: int = 0
) -> int:
    """Return the bytes that one forward needs beside the weights. latent_shape: (..., T, H/8, W/8).

    chunk_tokens: as in FloatChoices.

    Numbers of hidden states (tokens x width), counted over the live tensors of full-size blocks on meta
    tensors: in half precision 7.2, or 4.2 and one feed-forward layer if that is wide; in float32 4.1 and two
    feed-forward layers, because GELU is a separate step there; in chunks 5.1 for the attention, or 4.2, and
    4.2 and one feed-forward layer for a chunk. Rounded up for fragmentation of the allocator.
    """
    tokens = token_count(config, latent_shape)
    width = config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128)
    wide = config.get("ffn_dim", 13824) / width
    if 0 < chunk_tokens < tokens:
        states = max(5.4, 4.3 + (wide + 4.2) * chunk_tokens / tokens)
    else:
        states = max(7.8, 4.6 + wide) if dtype.itemsize < 4 else 4.6 + 2 * wide
    return int(states * tokens * width * dtype.itemsize)


def token_count(config: Mapping[str, Any], latent_shape: Sequence[int]) -> int:
    """Return the number of tokens of latents (..., T, H/8, W/8)."""
    frames, rows, columns = latent_shape[-3:]
    patch_frames, patch_rows, patch_columns = config.get("patch_size", (1, 2, 2))
    return int((frames // patch_frames) * (rows // patch_rows) * (columns // patch_columns))


def meta_expert(
    recipe: Recipe, choices: FloatChoices | None = None, device: torch.device | None = None
) -> OwnTransformer:
    """Build the network on the meta device. Only the rotary tables are real: they are computed, not stored.

    choices: kernels of the forward; None for plain torch. device: where it will run, if known.

    Raises ModelError if the configuration is not of a Wan transformer.
    """
    network = empty_network(
        recipe, "a Wan transformer", lambda config: OwnTransformer(TransformerConfig.of(config))
    )
    replace_transformer_forward(network, choices or FloatChoices(), device)
    return network


def _meta_expert_on(recipe: Recipe, choices: FloatChoices, device: torch.device) -> OwnTransformer:
    network = meta_expert(recipe, choices, device).requires_grad_(False).eval()
    network.rope.to(device)
    return network


def _title(names: Collection[str]) -> str:
    return f"{' and '.join(map(_described, names))} expert"


def _described(name: str) -> str:
    """Say which expert it is. name: "high+1" is the high-noise one after its LoRA strengths changed once."""
    expert, _, change = name.partition("+")
    return f"{expert}-noise" + (f" (LoRA change {change})" if change else "")


EXPERT = NetworkKind(_meta_expert_on, expert_dtypes, velocity_of, _title, in_parts=True)
"""The Wan transformers that are asked with a prompt."""


def expert_kind(riflex: Riflex | None) -> NetworkKind:
    """Return EXPERT, with positions in time that `riflex` changes; None leaves them as they are."""
    return EXPERT if riflex is None else replace(EXPERT, velocity=partial(velocity_of, riflex=riflex))
