"""Measures one block of a published size on a device, with random weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..kernels.choices import Preferences
from ..kernels.rates import seconds_of
from ..plan.expectation import Rates, forward_seconds
from ..plan.flops import SIZES, TEXT_TOKENS, TEXT_WIDTH, NetworkSize, tokens_of
from .expert import expert_dtypes
from .transformer import OwnTransformer, replace_transformer_forward
from .transformer_config import TransformerConfig

__all__ = ["BlockTime", "measure_block"]

_HEAD_WIDTH = 128  # of every published size
_ON_GPU = "wan2.2-t2v-a14b", (21, 60, 104)  # latent frames, height and width of 832x480, 81 frames
_ELSEWHERE = "wan2.1-t2v-1.3b", (1, 64, 64)  # about a second on two cores


@dataclass(frozen=True)
class BlockTime:
    """family: whose size the block has. seconds: measured. expected_s: what `forward_seconds` says of it."""

    family: str
    tokens: int
    seconds: float
    expected_s: float


@torch.inference_mode()
def measure_block(
    rates: Rates, device: torch.device, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter
) -> BlockTime:
    """Measure a block in `dtype`: of A14B on a GPU, of Wan 2.1 1.3B elsewhere.

    rates: of the same device and dtype. Raises torch.OutOfMemoryError when it does not fit.
    """
    family, shape = _ON_GPU if device.type == "cuda" else _ELSEWHERE
    size = SIZES[family]
    network = _one_block(size, device, dtype)
    block, given = network.blocks[0], []
    handle = block.register_forward_pre_hook(lambda _, arguments: given.append(arguments))
    network(
        torch.randn(1, size.channels_in, *shape, device=device, dtype=dtype),
        torch.full((1,), 500.0, device=device),
        torch.randn(1, TEXT_TOKENS, TEXT_WIDTH, device=device, dtype=dtype),
    )
    handle.remove()
    seconds = seconds_of(lambda: block(*given[0]), device, clock)
    tokens = tokens_of(shape)
    whole, rest = (forward_seconds(replace(size, layers=layers), tokens, rates) for layers in (1, 0))
    return BlockTime(family, tokens, seconds, whole - rest)


def _one_block(size: NetworkSize, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a network with one block of `size`. Weights are random: zeros need less power."""
    rule, heads = expert_dtypes(dtype), size.width // _HEAD_WIDTH
    config = TransformerConfig(num_attention_heads=heads, ffn_dim=size.ffn, num_layers=1)
    with torch.device("meta"):
        network = OwnTransformer(config)
    weights = {
        name: torch.empty(weight.shape, dtype=rule(name), device=device).normal_(0, 0.02)
        for name, weight in network.named_parameters()
    }
    network.load_state_dict(weights, assign=True)
    network.rope.to(device)
    replace_transformer_forward(network, Preferences().resolve(device, dtype), device)
    return network
