"""NAG against the formula of its paper in float64, in a function and in a whole forward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from hypothesis import given
from hypothesis import strategies as st
from tiny_transformer import SHAPE, own, relative_l2, stock
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from traffic import Traffic

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.networks.attention_guidance import guided_attention
from wan_duet.pipelines.networks.expert import expert_dtypes, forward_bytes
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.sampling.nag import AttentionGuidance

SETTINGS = (5.0, 2.5, 0.25)


def papers(positive: Tensor, negative: Tensor, phi: float, tau: float, alpha: float) -> Tensor:
    """Extrapolation, normalisation and refinement, arxiv.org/abs/2505.21179, section 4, in that order."""
    extrapolated = positive + phi * (positive - negative)
    ratio = extrapolated.abs().sum(-1, keepdim=True) / positive.abs().sum(-1, keepdim=True)
    normalised = torch.minimum(ratio, torch.full_like(ratio, tau)) / ratio * extrapolated
    return alpha * normalised + (1 - alpha) * positive


class PapersAttention:
    """The cross-attention of diffusers' network, with NAG in its own dtype."""

    def __init__(self, negative: Tensor) -> None:
        self.negative = negative

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        def look_up(key: Tensor, value: Tensor) -> Tensor:
            query = heads(attn.norm_q(attn.to_q(hidden_states)))
            found = scaled_dot_product_attention(query, heads(key), heads(value))
            return found.transpose(1, 2).flatten(2)

        def of_text(text: Tensor) -> Tensor:
            return look_up(attn.norm_k(attn.to_k(text)), attn.to_v(text))

        text, scale = encoder_hidden_states[:, -512:], SETTINGS[0]
        found = papers(of_text(text), of_text(self.negative), scale - 1, *SETTINGS[1:])
        if attn.add_k_proj is not None:
            image = encoder_hidden_states[:, :-512]
            found = found + look_up(attn.norm_added_k(attn.add_k_proj(image)), attn.add_v_proj(image))
        return attn.to_out[0](found)


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, text and negative text."""
    generator = torch.Generator().manual_seed(1)
    shapes = SHAPE, (1, 512, 16), (1, 512, 16)
    latents, text, negative = (torch.randn(*shape, generator=generator) for shape in shapes)
    return latents.to(dtype), text.to(dtype), negative.to(dtype)


@torch.inference_mode()
def reference(network: WanTransformer3DModel, image: Tensor | None = None) -> Tensor:
    exact = copy.deepcopy(network).double()
    latents, text, negative = inputs(torch.float64)
    read = exact.condition_embedder.text_embedder(negative)
    for block in exact.blocks:
        block.attn2.set_processor(PapersAttention(read))
    image = None if image is None else image.double()
    return exact(latents, torch.tensor([640.0]), text, image, return_dict=False)[0]


@torch.inference_mode()
def ours(network: WanTransformer3DModel, image: Tensor | None = None, *changed: float) -> Tensor:
    latents, text, negative = inputs()
    guidance = AttentionGuidance(negative, *(changed or SETTINGS))
    time = torch.tensor([640.0])
    return network(latents, time, text, image, return_dict=False, guidance=guidance)[0]


@given(st.floats(1, 15), st.floats(0.5, 10), st.floats(0, 1), st.integers(0, 2**31))
def test_the_function_is_the_papers_formula(scale: float, tau: float, alpha: float, seed: int) -> None:
    positive, negative = torch.randn(2, 2, 7, 24, generator=torch.Generator().manual_seed(seed))
    exact = papers(positive.double(), negative.double(), scale - 1, tau, alpha)
    assert relative_l2(guided_attention(positive, negative, scale, tau, alpha).double(), exact) <= 1e-5


def test_features_of_zero_stay_finite() -> None:
    zero, one = torch.zeros(1, 2, 4), torch.ones(1, 2, 4)
    assert torch.equal(guided_attention(zero, one, *SETTINGS), zero)
    assert torch.equal(guided_attention(zero, zero, *SETTINGS), zero)
    assert torch.isfinite(guided_attention(one, 1.25 * one, *SETTINGS)).all()  # extrapolated to 0


def test_in_half_precision_the_result_is_rounded_once() -> None:
    positive, negative = torch.randn(2, 1, 50, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = papers(positive.double(), negative.double(), 10, 2.5, 0.25)
    assert relative_l2(guided_attention(positive, negative, 11, 2.5, 0.25).double(), exact) <= 2**-8


@pytest.mark.parametrize("chunk_tokens", [0, 7])
@pytest.mark.parametrize("compiler", [None, "eager"])
def test_a_forward_is_the_papers_in_float64(chunk_tokens: int, compiler: str | None) -> None:
    network = stock()
    mine = own(network, FloatChoices(chunk_tokens=chunk_tokens, compiler=compiler))
    exact = reference(network)
    assert relative_l2(ours(mine).double(), exact) <= 1e-5
    assert relative_l2(ours(mine, None, 1.0, 2.5, 0.25).double(), exact) > 1e-2


def test_the_image_of_wan_2_1_is_attended_to_without_guidance() -> None:
    network = stock(image_dim=24, added_kv_proj_dim=128)
    image = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(5))
    assert relative_l2(ours(own(network), image).double(), reference(network, image)) <= 1e-5


@pytest.mark.parametrize("chunk_tokens", [0, 5460])
def test_it_needs_no_more_memory_than_a_forward_is_given(chunk_tokens: int) -> None:
    """A block of A14B at 480p and 81 frames."""
    rule, tokens, dtype = expert_dtypes(torch.bfloat16), 32760, torch.bfloat16
    with torch.device("meta"):
        network = WanTransformer3DModel(num_layers=1).eval()
        hidden, text, negative = (torch.empty(1, n, 5120, dtype=dtype) for n in (tokens, 512, 512))
        temb, angles = torch.empty(1, 6, 5120, dtype=dtype), torch.empty(1, tokens, 1, 128)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(rule(name))
    replace_transformer_forward(network, FloatChoices(chunk_tokens=chunk_tokens))
    guidance = AttentionGuidance(negative, *SETTINGS)
    with torch.inference_mode(), Traffic() as traffic:
        network.blocks[0](hidden, text, temb, (angles, angles), guidance)
    given = forward_bytes(dict(network.config), (16, 21, 60, 104), dtype, chunk_tokens)
    assert traffic.peak + hidden.nbytes <= given
