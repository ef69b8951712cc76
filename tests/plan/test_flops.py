"""The formula against torch's own counter, on full-size networks without numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.utils.flop_counter import FlopCounterMode

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.plan.flops import forward_flops, size_of, tokens_of

A14B: dict[str, Any] = {}
TI2V: dict[str, Any] = {
    "num_attention_heads": 24,
    "ffn_dim": 14336,
    "num_layers": 30,
    "in_channels": 48,
    "out_channels": 48,
}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(("config", "latents"), [(A14B, (16, 21, 60, 104)), (TI2V, (48, 31, 44, 80))])
def test_a_forward_is_as_much_arithmetic_as_is_foretold(
    config: dict[str, Any], latents: tuple[int, ...], own: bool
) -> None:
    with torch.device("meta"):
        network = WanTransformer3DModel(**{**config, "num_layers": 2}).eval()
        arguments = torch.empty(1, *latents), torch.zeros(1), torch.empty(1, 512, 4096)
    if own:
        replace_transformer_forward(network, FloatChoices())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*arguments, return_dict=False)
    size = size_of({**config, "num_layers": 2})
    foretold = forward_flops(size, tokens_of(latents)).total
    assert counter.get_total_flops() == pytest.approx(foretold, rel=1e-4)


def test_a_known_size_is_a_known_number() -> None:
    flops = forward_flops(size_of(A14B), tokens_of((16, 21, 60, 104)))
    assert flops.total == pytest.approx(1.6784e15, rel=1e-4)
    assert flops.attention / flops.total == pytest.approx(0.53, abs=0.005)
