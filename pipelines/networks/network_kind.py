"""The description of a kind of network for the executor."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..kernels.choices import FloatChoices
from ..parallel.rank_group import RankGroup
from ..sampling.cached_forward import BlockCache
from ..sampling.engine import Condition
from ..weights.recipe import DTypeRule, Recipe

__all__ = ["NetworkKind"]


class Velocity(Protocol):
    def __call__(
        self,
        network: Any,
        latents: Tensor,
        timestep: float,
        condition: Condition,
        dtype: torch.dtype,
        cache: BlockCache | None = None,
        *,
        ranks: RankGroup | None = None,
    ) -> Tensor:
        """Return the velocity that `network` predicts, float32 like `latents`. It computes in `dtype`.

        ranks: share the tokens; None computes all of them here.
        """


@dataclass(frozen=True)
class NetworkKind:
    """A kind of network with a list `blocks`, called in order.

    Layers before the blocks are not used after them.

    blank:    builds the network of a recipe on the meta device; only tensors that are computed, not stored,
              are on the device. Raises ModelError if the configuration is not of this kind.
    dtypes:   returns the dtype of every parameter, from the dtype of the computation.
    velocity: runs the network.
    title:    returns what to call the experts of these names in messages.
    in_parts: whether a forward can process some tokens at a time (`FloatChoices.chunk_tokens`).
    """

    blank: Callable[[Recipe, FloatChoices, torch.device], nn.Module]
    dtypes: Callable[[torch.dtype], DTypeRule]
    velocity: Velocity
    title: Callable[[Collection[str]], str]
    in_parts: bool
