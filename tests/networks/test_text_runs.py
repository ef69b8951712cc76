"""Frames that see a part of the text, against diffusers' network with a boolean mask in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformer import SHAPE, own, relative_l2, stock
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from traffic import Traffic

from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.networks.expert import EXPERT, expert_dtypes, forward_bytes
from wan_duet.pipelines.networks.text_runs import TextRun, TextRuns
from wan_duet.pipelines.networks.transformer import replace_transformer_forward
from wan_duet.pipelines.sampling.engine import Condition
from wan_duet.pipelines.sampling.nag import AttentionGuidance

TEXTS = (512, 600, 30)  # tokens of three texts
ENDS = (0, 512, 1112, 1142)
SEEN = ((0, 512), (0, 1112), (1112, 1142))  # the second frame lies at a border of two texts
TOKENS = 20  # of a frame


class MaskedAttention:
    """The cross-attention of diffusers' network, with a boolean mask (tokens, tokens of the text)."""

    def __init__(self, seen: tuple[tuple[int, int], ...]) -> None:
        self.mask = torch.zeros(len(seen), TOKENS, ENDS[-1], dtype=torch.bool)
        for frame, (first, end) in enumerate(seen):
            self.mask[frame, :, first:end] = True
        self.mask = self.mask.flatten(0, 1)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any) -> Tensor:
        def heads(projected: Tensor) -> Tensor:
            return projected.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        def look_up(key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
            query = heads(attn.norm_q(attn.to_q(hidden_states)))
            found = scaled_dot_product_attention(query, heads(key), heads(value), mask)
            return found.transpose(1, 2).flatten(2)

        text = encoder_hidden_states[:, -ENDS[-1] :]
        found = look_up(attn.norm_k(attn.to_k(text)), attn.to_v(text), self.mask)
        if attn.add_k_proj is not None:
            image = encoder_hidden_states[:, : -ENDS[-1]]
            found = found + look_up(attn.norm_added_k(attn.add_k_proj(image)), attn.add_v_proj(image), None)
        return attn.to_out[0](found)


def inputs(batch: int = 1) -> tuple[Tensor, Tensor]:
    """Latents and the concatenated texts."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, *SHAPE[1:], generator=generator),
        torch.randn(batch, ENDS[-1], 16, generator=generator),
    )


@torch.inference_mode()
def reference(network: WanTransformer3DModel, image: Tensor | None = None, batch: int = 1) -> Tensor:
    exact = copy.deepcopy(network).double()
    for block in exact.blocks:
        block.attn2.set_processor(MaskedAttention(SEEN))
    latents, text = (each.double() for each in inputs(batch))
    image = None if image is None else image.double()
    return exact(latents, torch.full((batch,), 640.0), text, image, return_dict=False)[0]


@torch.inference_mode()
def ours(network: WanTransformer3DModel, image: Tensor | None = None, batch: int = 1, **more: Any) -> Tensor:
    latents, text = inputs(batch)
    more = {"seen": SEEN, **more}
    return network(latents, torch.full((batch,), 640.0), text, image, return_dict=False, **more)[0]


@pytest.mark.parametrize("chunk_tokens", [0, 7])
@pytest.mark.parametrize("compiler", [None, "eager"])
def test_a_forward_is_the_masked_one_in_float64(chunk_tokens: int, compiler: str | None) -> None:
    network = stock()
    mine, exact = own(network, FloatChoices(chunk_tokens=chunk_tokens, compiler=compiler)), reference(network)
    assert relative_l2(ours(mine).double(), exact) <= 1e-5
    assert relative_l2(ours(mine, seen=None).double(), exact) > 1e-2


def test_clips_of_a_batch_are_masked_alike() -> None:
    network = stock()
    assert relative_l2(ours(own(network), batch=2).double(), reference(network, batch=2)) <= 1e-5


def test_the_image_of_wan_2_1_is_seen_by_every_frame() -> None:
    network = stock(image_dim=24, added_kv_proj_dim=128)
    image = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(5))
    assert relative_l2(ours(own(network), image).double(), reference(network, image)) <= 1e-5


@pytest.mark.parametrize("chunk_tokens", [0, 7])
def test_one_text_for_all_frames_has_the_bits_of_a_forward_without_ranges(chunk_tokens: int) -> None:
    mine = own(stock(), FloatChoices(chunk_tokens=chunk_tokens))
    assert torch.equal(ours(mine, seen=((0, ENDS[-1]),) * 3), ours(mine, seen=None))


def test_what_a_frame_does_not_see_changes_nothing_but_through_the_other_frames() -> None:
    network = own(stock(num_layers=1))
    latents, text = inputs()
    for block in network.blocks:
        block.attn1.to_out[0].weight.data.zero_()  # no frame sees another one
    first = ours(network)[:, :, 0]
    text[:, 512:] = 7
    changed = network(latents, torch.tensor([640.0]), text, return_dict=False, seen=SEEN)[0]
    assert torch.equal(changed[:, :, 0], first)
    assert not torch.equal(changed[:, :, 2], ours(network)[:, :, 2])


def test_what_is_said_of_fewer_frames_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="says what 2 frames see, but there are 3"):
        ours(own(stock()), seen=SEEN[:2])


def test_nag_leads_every_range_away_from_the_same_text() -> None:
    mine = own(stock())
    _, text = inputs()
    guidance = AttentionGuidance(text[:, :9], 1.0, 2.5, 0.25)
    assert relative_l2(ours(mine, guidance=guidance), ours(mine)) <= 1e-5  # at scale 1 it leads nowhere
    assert relative_l2(ours(mine, guidance=guidance._replace(scale=5.0)), ours(mine)) > 1e-2


def test_the_engine_passes_on_what_frames_see() -> None:
    latents, text = inputs()
    network, condition = own(stock()), Condition(text, seen=SEEN).to(torch.device("cpu"))
    made = EXPERT.velocity(network, latents, 640.0, condition, torch.float32)
    assert torch.equal(made, ours(network))


@given(
    st.lists(st.sampled_from(SEEN), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 40), st.data()
)
@settings(max_examples=60, deadline=None)
def test_runs_of_some_tokens_are_those_of_each_token(
    seen: list[tuple[int, int]], tokens: int, start: int, data: st.DataObject
) -> None:
    def of_each(runs: TextRuns) -> list[tuple[int, int]]:
        return [(run.first, run.end) for run in runs.runs for _ in range(run.tokens)]

    runs = TextRuns.of_frames(9, seen, tokens)
    every = [span for span in seen for _ in range(tokens)]
    assert of_each(runs) == every
    assert all(early[1:] != late[1:] for early, late in zip(runs.runs, runs.runs[1:], strict=False))
    here = slice(start, start + data.draw(st.integers(0, 40)))
    assert of_each(runs.within(here)) == every[here]


@pytest.mark.parametrize("chunk_tokens", [0, 5460])
def test_it_needs_no_more_memory_than_a_forward_is_given(chunk_tokens: int) -> None:
    """A block of A14B at 480p and 81 frames."""
    rule, tokens, dtype = expert_dtypes(torch.bfloat16), 32760, torch.bfloat16
    with torch.device("meta"):
        network = WanTransformer3DModel(num_layers=1).eval()
        hidden, text = (torch.empty(1, n, 5120, dtype=dtype) for n in (tokens, 1024))
        temb, angles = torch.empty(1, 6, 5120, dtype=dtype), torch.empty(1, tokens, 1, 128)
    for name, parameter in network.named_parameters():
        parameter.data = parameter.data.to(rule(name))
    replace_transformer_forward(network, FloatChoices(chunk_tokens=chunk_tokens))
    runs = TextRuns(1024, (TextRun(10 * 1560, 0, 512), TextRun(11 * 1560, 512, 1024)))
    with torch.inference_mode(), Traffic() as traffic:
        network.blocks[0](hidden, text, temb, (angles, angles), None, None, runs)
    assert traffic.peak + hidden.nbytes <= forward_bytes(
        dict(network.config), (16, 21, 60, 104), dtype, chunk_tokens
    )
