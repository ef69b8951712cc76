"""The tiny two-expert Wan model behind the golden numbers, in the original key names.

Every number comes from seeded CPU generators, so makers and tests build the same model without storing it.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

DIM, HEADS, FFN, LAYERS, TEXT_DIM, FREQ_DIM = 256, 2, 512, 2, 4096, 256
LATENT_SHAPE = (1, 16, 3, 8, 10)
STEPS, SHIFT, BOUNDARY = 12, 5.0, 0.875
GUIDANCE = {"high": 3.5, "low": 4.0}
SEEDS = {"high": 101, "low": 202, "noise": 303, "positive": 404, "negative": 505}


def expert_weights(seed: int) -> dict[str, Tensor]:
    """One expert: normal weights with a standard deviation of at most 0.05, norms around one."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        std = min(0.05, 1 / math.sqrt(math.prod(shape[1:]) or 1))
        return torch.randn(shape, generator=generator) * std

    weights: dict[str, Tensor] = {
        "patch_embedding.weight": normal(DIM, 16, 1, 2, 2),
        "patch_embedding.bias": normal(DIM),
    }

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = normal(outputs, inputs), normal(outputs)

    linear("text_embedding.0", TEXT_DIM, DIM)
    linear("text_embedding.2", DIM, DIM)
    linear("time_embedding.0", FREQ_DIM, DIM)
    linear("time_embedding.2", DIM, DIM)
    linear("time_projection.1", DIM, 6 * DIM)
    for index in range(LAYERS):
        block = f"blocks.{index}"
        for attention in ("self_attn", "cross_attn"):
            for part in "qkvo":
                linear(f"{block}.{attention}.{part}", DIM, DIM)
            for norm in ("norm_q", "norm_k"):
                weights[f"{block}.{attention}.{norm}.weight"] = 1 + normal(DIM)
        weights[f"{block}.norm3.weight"], weights[f"{block}.norm3.bias"] = 1 + normal(DIM), normal(DIM)
        linear(f"{block}.ffn.0", DIM, FFN)
        linear(f"{block}.ffn.2", FFN, DIM)
        weights[f"{block}.modulation"] = normal(1, 6, DIM)
    linear("head.head", DIM, 64)
    weights["head.modulation"] = normal(1, 2, DIM)
    return weights


def text(name: str, tokens: int = 6) -> Tensor:
    """Prompt embeddings (1, tokens, TEXT_DIM), unpadded."""
    return torch.randn(1, tokens, TEXT_DIM, generator=torch.Generator("cpu").manual_seed(SEEDS[name]))


def noise() -> Tensor:
    return torch.randn(LATENT_SHAPE, generator=torch.Generator("cpu").manual_seed(SEEDS["noise"]))


TRAJECTORIES = [
    (solver, steps, shift)
    for solver in ("unipc", "dpm++")
    for steps, shift in ((2, 1.0), (3, 5.0), (8, 3.0), (27, 5.0), (40, 12.0))
]


def trajectory_name(solver: str, steps: int, shift: float) -> str:
    return f"{solver} {steps} {shift:g}"


def velocity(latents: Tensor, timestep: float) -> Tensor:
    """A curved velocity field of products and sums only, which every machine rounds alike."""
    return latents * 0.7 + latents * latents * (timestep / 4000.0) - 0.2


_TO_DIFFUSERS = [  # the rename table of a Wan transformer, original -> diffusers
    (r"\bself_attn\.", "attn1."),
    (r"\bcross_attn\.", "attn2."),
    (r"(attn[12])\.([qkv])\.", r"\1.to_\2."),
    (r"(attn[12])\.o\.", r"\1.to_out.0."),
    (r"\bffn\.0\.", "ffn.net.0.proj."),
    (r"\bffn\.2\.", "ffn.net.2."),
    (r"\bnorm3\.", "norm2."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"\bmodulation$", "scale_shift_table"),
    (r"^head\.head\.", "proj_out."),
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
]


def to_diffusers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in _TO_DIFFUSERS:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


DIFFUSERS_CONFIG = {
    "_class_name": "WanTransformer3DModel",
    "patch_size": [1, 2, 2],
    "num_attention_heads": HEADS,
    "attention_head_dim": DIM // HEADS,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_DIM,
    "freq_dim": FREQ_DIM,
    "ffn_dim": FFN,
    "num_layers": LAYERS,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
}
