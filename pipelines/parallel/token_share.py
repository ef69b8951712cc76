"""Ulysses sequence parallelism: the only place where tokens are split between ranks and joined again.

Each rank has a share of the tokens of every segment, so that a timestep per frame, and the sound of a frame,
still belong to equally many tokens per frame. Shares of tokens and heads may be uneven. Nothing is padded, so
attention needs no mask, which the fastest kernels do not take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..kernels.attention import Attend
from ..plan.gpu_layout import require_tokens, shares_of
from .rank_group import RankGroup

__all__ = ["TokenShare"]


class TokenShare:
    """The tokens of one rank in one forward.

    own: this rank's tokens of each segment.
    """

    def __init__(self, group: RankGroup, segments: Sequence[int]) -> None:
        """segments: all tokens of each part of the sequence, in order. Each part is split for itself.

        Raises RequestError if a rank would have no token of a segment.
        """
        require_tokens(segments, group.size)
        self._group, self._segments = group, tuple(segments)
        self.own = tuple(shares_of(segment, group.size)[group.rank] for segment in segments)

    def take(self, axes: Mapping[str, int], **whole: Tensor) -> list[Tensor]:
        """Return this rank's tokens of each tensor. axes: {name: the dimension of its tokens}."""
        mine = _positions(self._segments, self._group.size)[self._group.rank]
        return [tensor.index_select(axes[name], mine.to(tensor.device)) for name, tensor in whole.items()]

    def attention(self, attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the self-attention of this rank's tokens to all tokens, (B, own tokens, heads, head width).

        query, key, value: of this rank's tokens. Before and after `attend`, tokens are exchanged for heads.
        """
        batch, own, heads, width = query.shape
        counts = [len(positions) for positions in _positions(self._segments, self._group.size)]
        shares = shares_of(heads, self._group.size)
        mine = shares[self._group.rank]
        parts = torch.split(torch.stack((query, key, value)), list(shares), dim=3)
        arrived = self._group.exchange(parts, [(3, batch, tokens, mine, width) for tokens in counts])
        attended = attend(*torch.cat(arrived, dim=2))
        returned = torch.split(attended, counts, dim=1)
        arrived = self._group.exchange(returned, [(batch, own, part, width) for part in shares])
        return torch.cat(arrived, dim=2)

    def join(self, mine: Tensor, segments: int | None = None) -> Tensor:
        """Return the tokens of all ranks in their order. mine: (B, own tokens, D).

        segments: how many segments, from the first on, `mine` has tokens of; None for all.
        """
        batch, _, width = mine.shape
        places = _positions(self._segments[:segments], self._group.size)
        shapes = [(batch, len(positions), width) for positions in places]
        arrived = torch.cat(self._group.exchange([mine] * self._group.size, shapes), dim=1)
        joined = torch.empty_like(arrived)
        joined[:, torch.cat(places).to(mine.device)] = arrived
        return joined


@lru_cache(maxsize=8)  # the same in every forward of a run
def _positions(segments: tuple[int, ...], ranks: int) -> tuple[Tensor, ...]:
    """Return the positions of the tokens of each rank, int64 on the CPU."""
    parts = torch.split(torch.arange(sum(segments)), list(segments))
    shared = [torch.split(part, list(shares_of(len(part), ranks))) for part in parts]
    return tuple(torch.cat(own) for own in zip(*shared, strict=True))
