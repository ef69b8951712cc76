"""What the executor has to know of a network, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..kernels.choices import FloatChoices
from ..sampling.engine import Condition
from ..sampling.step_cache import BlockCache
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
    ) -> Tensor:
        """What `network` predicts, float32 like `latents`; it computes in `dtype`."""


@dataclass(frozen=True)
class NetworkKind:
    """Networks with a list `blocks`, called one after the other; what is before them is needed no later.

    blank:    the network of a recipe: on meta but for what is never stored, which is on the device.
              Raises ModelError when the configuration is not one of this kind.
    dtypes:   the dtype of every parameter, by the one that is computed in.
    velocity: asks it.
    title:    what to call the experts of these names in messages.
    in_parts: whether a forward can work on some tokens at a time (`FloatChoices.chunk_tokens`).
    """

    blank: Callable[[Recipe, FloatChoices, torch.device], nn.Module]
    dtypes: Callable[[torch.dtype], DTypeRule]
    velocity: Velocity
    title: Callable[[Collection[str]], str]
    in_parts: bool
