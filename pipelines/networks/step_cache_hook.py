"""Lets a step cache decide after the first block of a transformer whether to skip the blocks up to the last.

The block modules stay the same, so compiled or streamed blocks keep working. Only the list that the forward
iterates over is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..sampling.cached_forward import BlockCache

__all__ = ["with_step_cache"]


@contextmanager
def with_step_cache(network: nn.Module, cache: BlockCache | None) -> Iterator[None]:
    """Put `cache` between the blocks of `network` for one forward. None changes nothing."""
    blocks = network.blocks
    if cache is None or not isinstance(blocks, nn.ModuleList) or len(blocks) < 3:
        yield
        return
    network.blocks = _CachedBlocks(blocks, cache)
    try:
        yield
    finally:
        network.blocks = blocks


class _CachedBlocks(nn.ModuleList):
    def __init__(self, blocks: nn.ModuleList, cache: BlockCache) -> None:
        super().__init__(blocks)
        self._cache = cache

    def __iter__(self) -> Iterator[Any]:
        first, *others, last = super().__iter__()
        finished = False

        def ask(hidden: Tensor, *arguments: Any) -> Tensor:
            nonlocal finished
            after: Tensor = first(hidden, *arguments)
            done = self._cache.after_first(hidden, after)
            finished = done is not None
            return after if done is None else done

        def tell(hidden: Tensor, *arguments: Any) -> Tensor:
            if not finished:
                self._cache.before_last(hidden)
            result: Tensor = last(hidden, *arguments)
            return result

        yield ask
        if not finished:
            yield from others
        yield tell
