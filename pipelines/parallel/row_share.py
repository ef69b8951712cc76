"""The rows of a picture, split between ranks: the only place where they are split and joined again.

A rank has some rows of every frame. A convolution needs one row beyond each end, which the neighbours send.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..plan.gpu_layout import shares_of
from .rank_group import RankGroup

__all__ = ["RowShare"]


class RowShare:
    """The rows of one rank. Tensors are (..., H, W), on any scale of the picture that was split."""

    def __init__(self, group: RankGroup, rows: int) -> None:
        """rows: of the smallest scale; at least one for each rank."""
        self._group, self._shares = group, shares_of(rows, group.size)

    def take(self, whole: Tensor) -> Tensor:
        """Return this rank's rows of the smallest scale."""
        return torch.split(whole, list(self._shares), dim=-2)[self._group.rank]

    def around(self, mine: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row above and the row below this rank's rows; zeros beyond the picture."""
        above, below = self._group.rank - 1, self._group.rank + 1
        sent = {above: mine[..., :1, :], below: mine[..., -1:, :]}
        nobody = mine[..., :0, :]
        parts = [sent.get(rank, nobody) for rank in self._ranks]
        arrived = self._exchange(parts, [int(rank in sent) for rank in self._ranks])
        beyond = torch.zeros_like(mine[..., :1, :])
        return (arrived[above] if above >= 0 else beyond, arrived[below] if below in self._ranks else beyond)

    def join(self, mine: Tensor) -> Tensor:
        """Return the rows of all ranks, on every rank."""
        return torch.cat(self._exchange([mine for _ in self._ranks], self._rows_like(mine)), dim=-2)

    def join_at_first(self, mine: Tensor) -> Tensor:
        """Return the rows of all ranks on rank 0, and only `mine` on the others."""
        first, nobody = self._group.rank == 0, mine[..., :0, :]
        parts = [nobody if rank else mine for rank in self._ranks]
        arrived = self._exchange(parts, self._rows_like(mine) if first else [0 for _ in self._ranks])
        return torch.cat(arrived, dim=-2) if first else mine

    @property
    def _ranks(self) -> range:
        return range(self._group.size)

    def _rows_like(self, mine: Tensor) -> list[int]:
        """Return the rows of every rank on the scale of `mine`."""
        scale = mine.shape[-2] // self._shares[self._group.rank]
        return [scale * share for share in self._shares]

    def _exchange(self, parts: Sequence[Tensor], rows: Sequence[int]) -> list[Tensor]:
        """Send parts[r] to rank r. rows: of what each rank sends here."""
        *outer, _, width = parts[0].shape
        return self._group.exchange(parts, [(*outer, count, width) for count in rows])
