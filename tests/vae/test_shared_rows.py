"""Frames decoded by several ranks, each with some of their rows, are those of one rank."""

from __future__ import annotations

import copy

import pytest
import torch
from ranks_in_threads import in_ranks
from tiny_vae import LAYOUTS, make_vae
from torch import Tensor

from wan_duet.pipelines.parallel.rank_group import RankGroup
from wan_duet.pipelines.parallel.row_share import RowShare
from wan_duet.pipelines.vae.decode import stream_decode
from wan_duet.pipelines.vae.forward import replace_vae_forward


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_decode_the_frames_of_one(layout: str, ranks: int) -> None:
    vae = make_vae(layout, torch.float32).requires_grad_(False)
    latents = torch.randn(1, vae.config.z_dim, 3, 5, 4, generator=torch.Generator().manual_seed(1))

    def decoded(group: RankGroup | None) -> Tensor:
        own = copy.deepcopy(vae)
        replace_vae_forward(own, rows=None if group is None else RowShare(group, latents.shape[-2]))
        return torch.stack(list(stream_decode(own, latents, frames=8)))

    alone, (first, *others) = decoded(None), in_ranks(ranks, decoded)
    assert first.shape == alone.shape == (8, 3, 5 * 8 * (2 if layout == "2.2" else 1), alone.shape[-1])
    assert float((first - alone).abs().max()) <= 1e-5
    assert all(len(other) == len(alone) for other in others)


def test_rows_are_split_and_joined_on_every_scale() -> None:
    whole = torch.arange(2.0 * 7 * 3).view(2, 7, 3)
    larger = whole.repeat_interleave(2, -2)

    def through(group: RankGroup) -> tuple[Tensor, Tensor, Tensor]:
        share = RowShare(group, 7)
        mine = share.take(whole)
        above, below = share.around(mine)
        with_ends = torch.cat((above, mine, below), -2)
        return with_ends, share.join(mine), share.join_at_first(mine.repeat_interleave(2, -2))

    made, padded, start = in_ranks(3, through), torch.nn.functional.pad(whole, (0, 0, 1, 1)), 0
    for rank, (with_ends, joined, at_first) in enumerate(made):
        rows = with_ends.shape[-2] - 2
        assert torch.equal(with_ends, padded[:, start : start + rows + 2])
        assert torch.equal(joined, whole)
        assert torch.equal(at_first, larger if rank == 0 else larger[:, 2 * start : 2 * (start + rows)])
        start += rows
