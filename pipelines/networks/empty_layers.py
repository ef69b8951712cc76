"""Networks without weights: layers of torch do not initialise their parameters, which come from files.

On the meta device the first random number makes torch import its compiler, which takes as long as importing
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import ModelError
from ..weights.recipe import Recipe

__all__ = ["Conv2d", "Conv3d", "Embedding", "Linear", "empty_network"]

_Network = TypeVar("_Network", bound=nn.Module)


class Linear(nn.Linear):
    def reset_parameters(self) -> None: ...


class Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None: ...


class Conv3d(nn.Conv3d):
    def reset_parameters(self) -> None: ...


class Embedding(nn.Embedding):
    def reset_parameters(self) -> None: ...


def empty_network(recipe: Recipe, what: str, build: Callable[[Mapping[str, Any]], _Network]) -> _Network:
    """Build the network of a configuration on the meta device. what: for the error, such as "a Wan VAE".

    Raises ModelError that names the file and the entry if the configuration is not of such a network.
    """
    try:
        with torch.device("meta"):
            return build(recipe.config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{recipe.files[0].parent / 'config.json'}: not {what}: {found}") from error
