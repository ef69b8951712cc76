"""A tiny Wan transformer with random weights, stock and with our forward."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.networks.expert import expert_dtypes
from wan_duet.pipelines.networks.transformer import replace_transformer_forward

CONFIG: dict[str, Any] = {
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 192,
    "num_layers": 2,
}
SHAPE = (1, 16, 3, 8, 10)  # 60 tokens
PLAIN = FloatChoices()


def stock(dtype: torch.dtype = torch.float32, **config: Any) -> WanTransformer3DModel:
    torch.manual_seed(0)
    network = WanTransformer3DModel(**{**CONFIG, **config}).eval().requires_grad_(False)
    rule = expert_dtypes(dtype)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and "table" not in name:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        parameter.data = parameter.data.to(rule(name))
    return network


def own(network: WanTransformer3DModel, choices: FloatChoices = PLAIN) -> WanTransformer3DModel:
    mine = copy.deepcopy(network)
    replace_transformer_forward(mine, choices)
    return mine


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())
