"""Sequence parallelism on random networks: the velocity of one device, and the bytes of the formula."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ranks_in_threads import in_ranks
from tiny_transformer import own, relative_l2, stock
from torch import Tensor

from wan_duet.pipelines.errors import RequestError
from wan_duet.pipelines.kernels.choices import FloatChoices
from wan_duet.pipelines.parallel.link_rate import measure_link
from wan_duet.pipelines.parallel.rank_group import RankGroup
from wan_duet.pipelines.parallel.token_share import TokenShare
from wan_duet.pipelines.plan.gpu_layout import exchanged_items, joined_items, shares_of

FORTY = {"num_attention_heads": 40, "attention_head_dim": 12}
SHAPE = (1, 16, 3, 6, 10)  # 45 tokens, 15 of a frame


def inputs(network: Any, frames: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps (one, or one per frame) and text."""
    generator = torch.Generator().manual_seed(1)
    time = torch.tensor([700.0]) if frames is None else torch.linspace(0, 900, frames)[None]
    latents = torch.randn(SHAPE, generator=generator)
    return latents, time, torch.randn(1, 512, network.config.text_dim, generator=generator)


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("frames", [None, 3])
def test_forty_heads_and_odd_tokens_give_the_velocity_of_one_device(ranks: int, frames: int | None) -> None:
    network = own(stock(**FORTY))
    given = inputs(network, frames)
    with torch.inference_mode():
        alone = network(*given, return_dict=False)[0]
    shared = in_ranks(ranks, lambda group: network(*given, return_dict=False, ranks=group)[0])
    assert all(torch.equal(each, shared[0]) for each in shared)
    assert relative_l2(shared[0], alone) <= 1e-5


def test_chunks_of_shared_tokens_are_the_same_tokens() -> None:
    network = stock(**FORTY)
    given = inputs(network, 3)
    plain, chunked = own(network), own(network, FloatChoices(chunk_tokens=7))
    whole = in_ranks(2, lambda group: plain(*given, return_dict=False, ranks=group)[0])
    parts = in_ranks(2, lambda group: chunked(*given, return_dict=False, ranks=group)[0])
    assert relative_l2(parts[0], whole[0]) <= 1e-5


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_that_are_sent_are_those_of_the_formula(ranks: int, dtype: torch.dtype) -> None:
    network = own(stock(dtype, **FORTY))
    latents, time, text = inputs(network)

    def sent(group: RankGroup) -> int:
        network(latents.to(dtype), time, text.to(dtype), return_dict=False, ranks=group)
        return group.sent_bytes

    blocks = len(network.blocks) * exchanged_items([45], 40, 12, ranks)
    assert sum(in_ranks(ranks, sent)) == dtype.itemsize * (blocks + joined_items(45, 64, ranks))


def test_the_link_is_what_a_device_sends_to_the_others_in_a_second() -> None:
    clocks = [itertools.count(0, 0.5).__next__ for _ in range(2)]
    rates = in_ranks(2, lambda group: measure_link(group, "cpu", clocks[group.rank]))
    assert rates == [2 * 32 * 2**20] * 2


def test_heads_are_split_as_evenly_as_they_can() -> None:
    assert shares_of(40, 3) == (14, 13, 13)
    assert exchanged_items([32760], 40, 128, 2) == 4 * 32760 * 5120 // 2


def test_eight_bit_floats_travel_too() -> None:
    def exchanged(group: RankGroup) -> Tensor:
        mine = torch.full((2,), float(group.rank + 1)).to(torch.float8_e4m3fn)
        return torch.cat([each.float() for each in group.exchange([mine, mine], [(2,), (2,)])])

    for received in in_ranks(2, exchanged):
        assert received.tolist() == [1, 1, 2, 2]


def test_every_rank_goes_on_with_the_numbers_of_the_first() -> None:
    found = in_ranks(3, lambda group: group.from_first(torch.full((2, 2), group.rank)))
    assert all(torch.equal(each, torch.zeros(2, 2, dtype=torch.int64)) for each in found)


def test_a_frame_with_fewer_tokens_than_devices_is_refused() -> None:
    with pytest.raises(RequestError, match=r"gpus: a frame has 3 tokens, fewer than the 4 devices"):
        TokenShare(RankGroup(0, 4, None), [15, 3])
