"""A VAE without the rest of its model: loaded by ComfyUI, or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..device.precision import Precision
from ..errors import ModelError
from ..kernels.choices import Preferences
from ..loading.identify import read_part
from ..loading.vae_layout import vae_recipe
from ..plan.families import FAMILIES, Family
from ..weights.checkpoint import Checkpoint
from ..weights.recipe import Recipe
from ..weights.stored_tensors import TensorSource

__all__ = ["HasVae", "StandaloneVae", "read_vae", "vae_of_tensors"]

_NAME = Path("the connected VAE")  # stands in errors where a file's name would
_PRECISIONS: dict[torch.dtype, Precision] = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}


class HasVae(Protocol):
    """What decoding needs of a model: a WanModel, or a VAE alone."""

    @property
    def family(self) -> Family: ...

    @property
    def vae(self) -> Recipe: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def preferences(self) -> Preferences: ...


@dataclass(frozen=True)
class StandaloneVae:
    """A VAE alone. `family`: any family that uses this VAE."""

    family: Family
    vae: Recipe = field(repr=False)
    precision: Precision
    preferences: Preferences = field(default_factory=Preferences)


def vae_of_tensors(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> StandaloneVae:
    """Return the VAE with these tensors, in Wan's or diffusers' names, to compute in `dtype`.

    Tensors are copied only when used, and only if device or dtype differ. Raises ModelError if they are not
    of a Wan VAE.
    """
    sources = {name: TensorSource(tensor, _NAME) for name, tensor in tensors.items()}
    recipe = vae_recipe(Checkpoint(_NAME, sources))
    if dtype not in _PRECISIONS:
        raise ModelError(f"{_NAME}: in {dtype}; a Wan VAE in fp32, bf16 or fp16 works")
    return _standalone(_NAME, recipe, _PRECISIONS[dtype])


def read_vae(path: Path, precision: Precision) -> StandaloneVae:
    """Read the VAE in a file or folder. Raises ModelError if there is none."""
    return _standalone(path, read_part(path, "VAE", "vae"), precision)


def _standalone(path: Path, recipe: Recipe, precision: Precision) -> StandaloneVae:
    channels = recipe.config.get("z_dim")
    family = next((family for family in FAMILIES.values() if family.latent_channels == channels), None)
    if family is None:
        raise ModelError(f"{path}: a VAE with {channels} latent channels, which no Wan model has")
    return StandaloneVae(family, recipe, precision)
