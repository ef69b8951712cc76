"""Cuts an image that is too large for the device into overlapping tiles, and blends them.

The outer loop is over time: every tile has its own feature cache, so frames are returned before the clip is
complete. Cuts and blending have the bits of diffusers' tiled VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .stream import Cache, new_cache

__all__ = ["Tile", "TileCaches", "Tiling", "in_tiles"]


@dataclass(frozen=True)
class Tiling:
    """Tiles of `size` x `size` pixels, a new one every `stride` pixels; both multiples of the VAE's stride.

    spill: keep the feature caches of inactive tiles in main memory. Together they are larger than the one
           cache of the whole image, and moving them takes time.
    """

    size: int = 256
    stride: int = 192
    spill: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size:
            raise ValueError(f"tiles of {self.size} pixels every {self.stride} leave gaps")


Tile: TypeAlias = tuple[int, int]
"""Top and left of a tile, in the elements of what goes in."""


@dataclass(frozen=True)
class _Cut:
    """Lengths along one side, in elements of the input and of the output."""

    size: int
    stride: int
    out_stride: int
    overlap: int


class TileCaches:
    """The feature caches of all tiles. An image that is not cut is the tile (0, 0).

    spill: as in Tiling.
    """

    def __init__(self, network: torch.nn.Module, *, spill: bool) -> None:
        self._network, self._spill = network, spill
        self._of: dict[Tile, Cache] = {}

    @contextmanager
    def of(self, tile: Tile, device: torch.device) -> Iterator[Cache]:
        """Provide the cache of `tile` on `device` while the tile is computed."""
        cache = self._of.setdefault(tile, new_cache(self._network))
        _move(cache, device)
        yield cache
        if self._spill:
            _move(cache, torch.device("cpu"))

    def clear(self) -> None:
        for cache in self._of.values():
            cache.clear()
        self._of.clear()


def in_tiles(
    chunk: Tensor, tiling: Tiling, *, stride_in: int, stride_out: int, work: Callable[[Tensor, Tile], Tensor]
) -> Tensor:
    """Apply `work` to every tile of `chunk` (B, C, T, h, w), and join the results to (B, C', T', h', w').

    stride_in, stride_out: pixels of `tiling` per element of the input and of the output.
    """
    cut = _Cut(
        tiling.size // stride_in,
        tiling.stride // stride_in,
        tiling.stride // stride_out,
        (tiling.size - tiling.stride) // stride_out,
    )
    height, width = chunk.shape[-2:]
    rows = list[Tensor]()
    above = list[Tensor]()
    for top in range(0, height, cut.stride):
        row = [
            work(chunk[..., top : top + cut.size, left : left + cut.size], (top, left))
            for left in range(0, width, cut.stride)
        ]
        rows.append(torch.cat(list(_blended(row, above, cut)), -1))
        above = row
    whole = torch.cat(rows, -2)
    return whole[..., : height * stride_in // stride_out, : width * stride_in // stride_out]


def _blended(row: list[Tensor], above: list[Tensor], cut: _Cut) -> Iterator[Tensor]:
    """Return the part of each tile of `row` that no later tile covers.

    It blends in place, as the next row needs.
    """
    for index, tile in enumerate(row):
        if above:
            _blend(above[index], tile, cut.overlap, -2)
        if index:
            _blend(row[index - 1], tile, cut.overlap, -1)
        yield tile[..., : cut.out_stride, : cut.out_stride]


def _blend(before: Tensor, tile: Tensor, overlap: int, side: int) -> None:
    """Fade the first elements of `tile` along `side` from the last elements of `before`."""
    overlap = min(before.shape[side], tile.shape[side], overlap)
    if not overlap:
        return
    share = (torch.arange(overlap, dtype=torch.float64) / overlap).view(-1, *[1] * (-1 - side))
    old = before.narrow(side, before.shape[side] - overlap, overlap)
    new = tile.narrow(side, 0, overlap)
    new.copy_(_times(old, 1 - share) + _times(new, share))


def _times(pixels: Tensor, share: Tensor) -> Tensor:
    """Multiply with one number per row, rounded as in diffusers: factor to float32, result to its dtype."""
    return (pixels.float() * share.float().to(pixels.device)).to(pixels.dtype)


def _move(cache: Cache, device: torch.device) -> None:
    for index, entry in enumerate(cache):
        if isinstance(entry, Tensor):
            cache[index] = entry.to(device)
