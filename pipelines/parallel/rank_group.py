"""Some ranks that exchange tensors, and the count of the bytes they send."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import RankLostError

__all__ = ["RankGroup"]


class RankGroup:
    """The ranks of one process group, seen from one of them.

    rank:       of this process within the group.
    sent_bytes: bytes that this rank has sent to other ranks of the group.
    """

    def __init__(
        self, rank: int, size: int, process_group: dist.ProcessGroup | None, *, staged: bool = False
    ) -> None:
        """process_group: None for all processes of torch.distributed.
        staged: send through main memory, because the backend (gloo) cannot read the device.
        """
        self.rank, self.size, self.sent_bytes = rank, size, 0
        self._process_group, self._staged = process_group, staged

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Send parts[r] to rank r, and return what each rank has sent here, in order of their ranks.

        parts:  one tensor for each rank, all of one dtype. They may differ in shape and may be empty.
        shapes: of the results.

        Tensors travel as bytes, so every dtype does, 8-bit floats over gloo too. Raises RankLostError if
        another rank ended.
        """
        dtype, device = parts[0].dtype, parts[0].device
        sent = torch.cat([part.reshape(-1).view(torch.uint8) for part in parts])
        sizes = [part.numel() * dtype.itemsize for part in parts]
        expected = [math.prod(shape) * dtype.itemsize for shape in shapes]
        if self._staged:
            sent = sent.cpu()
        received = torch.empty(sum(expected), dtype=torch.uint8, device=sent.device)
        try:
            dist.all_to_all_single(received, sent, expected, sizes, group=self._process_group)
        except RuntimeError as error:
            raise RankLostError(f"the exchange with the other ranks failed: {error}") from error
        self.sent_bytes += sum(sizes) - sizes[self.rank]
        pieces = torch.split(received.to(device), expected)
        return [piece.view(dtype).view(*shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def from_first(self, tensor: Tensor) -> Tensor:
        """Return the tensor of rank 0. `tensor` has its shape and dtype on every rank."""
        nothing = tensor.new_empty(0)
        parts = [tensor if self.rank == 0 else nothing] * self.size
        shapes: list[Sequence[int]] = [tensor.shape, *[(0,)] * (self.size - 1)]
        return self.exchange(parts, shapes)[0]
