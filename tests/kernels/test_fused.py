"""The triton kernels against plain torch, in triton's own interpreter: no GPU is needed, but triton is.

bfloat16 is left out: the interpreter cuts it off where a GPU rounds it. `bench/gpu_suite.py` has it.
"""

from __future__ import annotations

import copy
import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton.language")

from diffusers import WanTransformer3DModel

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.kernels.fused import fused_operations, rms_silu
from wan_duet.pipelines.kernels.operations import Operations, Rope, plain_operations
from wan_duet.pipelines.networks.transformer import replace_transformer_forward

BATCH, TOKENS, WIDTH, HEADS, EPS = 2, 6, 48, 2, 1e-6
TOLERANCE = {torch.float32: 1e-6, torch.float16: 6e-4}

pytestmark = pytest.mark.skipif(
    "TRITON_INTERPRET" not in os.environ, reason="the interpreter is for a machine without a GPU"
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_l2(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


def fused() -> Operations:
    made = fused_operations()
    assert made is not None
    return made


@pytest.mark.parametrize("rows", [1, 2, TOKENS])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_norms_and_gates_are_those_of_plain_torch(rows: int, dtype: torch.dtype) -> None:
    modulation = normal(BATCH, rows, 3, WIDTH, seed=1)
    weight, bias, gate = modulation.unbind(2)
    hidden, update = normal(BATCH, TOKENS, WIDTH, seed=2), normal(BATCH, TOKENS, WIDTH, seed=3)
    ours, plain, low = fused(), plain_operations(), (hidden.to(dtype), update.to(dtype))
    one = weight[:1, :1].contiguous(), bias[:1, :1].contiguous()
    pairs = [
        (ours.norm(low[0], weight, bias, EPS), plain.norm(hidden, weight, bias, EPS)),
        (ours.gated(*low, gate), plain.gated(hidden, update, gate)),
        *zip(
            ours.gated_norm(*low, gate, *one, EPS),
            plain.gated_norm(hidden, update, gate, *one, EPS),
            strict=True,
        ),
        *zip(
            ours.gated_norm(*low, None, weight, bias, EPS),
            plain.gated_norm(hidden, update, None, weight, bias, EPS),
            strict=True,
        ),
    ]
    assert max(relative_l2(*pair) for pair in pairs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_projections_are_normed_and_turned_in_place(dtype: torch.dtype) -> None:
    angles, plain = normal(TOKENS, WIDTH // HEADS // 2, seed=4), plain_operations()
    cos, sin = angles.cos(), angles.sin()
    rope = Rope(cos, sin, plain.table(cos, sin))
    projection, weight = normal(BATCH, TOKENS, WIDTH, seed=5), normal(WIDTH, seed=6)
    ours = projection.to(dtype).clone()
    turned = fused().turned(lambda: ours, weight.to(dtype), EPS, HEADS, rope)
    assert turned.shape == (BATCH, TOKENS, HEADS, WIDTH // HEADS)
    assert turned.data_ptr() == ours.data_ptr()
    expected = plain.turned(lambda: projection, weight, EPS, HEADS, rope)
    assert relative_l2(turned, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("clips", [1, 2])
@torch.inference_mode()
def test_a_network_in_parts_is_the_stock_one(clips: int) -> None:
    torch.manual_seed(0)
    theirs = WanTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=24, text_dim=8, freq_dim=8, ffn_dim=64, num_layers=2
    ).eval()
    ours = copy.deepcopy(theirs)
    replace_transformer_forward(ours, FloatChoices(kernels="triton", chunk_tokens=7))
    given = normal(clips, 16, 2, 6, 6, seed=1), torch.full((clips,), 640.0), normal(clips, 512, 8, seed=2)
    made, expected = (network(*given, return_dict=False)[0] for network in (ours, theirs))
    assert relative_l2(made, expected) <= 1e-5


def test_the_norm_of_the_vae_writes_where_it_is_told() -> None:
    pixels, gamma, room = normal(3, 5, 24), normal(24, seed=1), torch.zeros(5, 5, 24)
    rms_silu(pixels, gamma, 24**0.5, room[2:])
    lengths = torch.nn.functional.normalize(pixels, dim=-1)
    assert relative_l2(room[2:], torch.nn.functional.silu(lengths * 24**0.5 * gamma)) <= 1e-6
    assert not room[:2].any()
