"""Loads the Wan VAE, and converts between VAE space and the normalised latent space of the experts."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from ..device.memory import Memory, compute_dtype
from ..kernels.choices import KernelChoice
from ..kernels.kernel_trials import operations_of
from ..kernels.operations import Operations
from ..networks.empty_layers import empty_network
from ..parallel.row_share import RowShare
from ..weights.footprint import weight_bytes
from ..weights.recipe import Recipe, materialise
from .forward import replace_vae_forward
from .own_vae import OwnVae
from .standalone import HasVae
from .vae_config import VaeConfig

__all__ = ["denormalise", "load_model_vae", "load_vae", "normalise", "vae_kernels"]

log = logging.getLogger(__name__)


def load_model_vae(
    model: HasVae,
    dtype: torch.dtype,
    memory: Memory,
    check: Callable[[], None],
    working_bytes: int = 0,
    rows: RowShare | None = None,
) -> OwnVae:
    """Load the VAE as `load_vae` does, with the kernels of `vae_kernels`.

    memory: of the device of the VAE. rows: as for `replace_vae_forward`.
    """
    chosen = vae_kernels(model, memory)
    log.info("VAE: %s", chosen.text())
    return load_vae(model.vae, dtype, memory, check, working_bytes, operations_of(chosen.kernels), rows)


def vae_kernels(model: HasVae, memory: Memory) -> KernelChoice:
    """Choose the kernels for the VAE of `model`: those the user asked for, else the fastest that run.

    Raises ModelError when the requested kernels do not run on the device in the dtype of the VAE.
    """
    memory = memory.for_part("vae")
    dtype = compute_dtype(model.precision, memory, "vae")
    return model.preferences.vae_kernels_on(memory.device, dtype)


def load_vae(
    recipe: Recipe,
    dtype: torch.dtype,
    memory: Memory,
    check: Callable[[], None],
    working_bytes: int = 0,
    operations: Operations | None = None,
    rows: RowShare | None = None,
) -> OwnVae:
    """Materialise the VAE on the device of `memory`, and reserve `working_bytes` beside it.

    operations, rows: as for `replace_vae_forward`.

    Raises ModelError if the recipe does not fit.
    """
    memory.reserve(weight_bytes(recipe, lambda _: dtype), "VAE", working_bytes)
    network = empty_network(recipe, "a Wan VAE", lambda config: OwnVae(VaeConfig.of(config)))
    materialise(recipe, network, memory.device, lambda _: dtype, check)
    replace_vae_forward(network, operations, rows)
    return network


def normalise(latents: Tensor, recipe: Recipe) -> Tensor:
    """Convert latents (B, C, T, H/8, W/8) from VAE space to the space of the experts.

    Per channel: (z - mean) / std.
    """
    mean, std = _statistics(latents, recipe)
    return (latents - mean) / std


def denormalise(latents: Tensor, recipe: Recipe) -> Tensor:
    """Convert latents to VAE space, as a LATENT socket and a VAE use them. The inverse of `normalise`."""
    mean, std = _statistics(latents, recipe)
    return latents * std + mean


def _statistics(latents: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    return tuple(  # type: ignore[return-value]
        torch.tensor(recipe.config[key], dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1, 1)
        for key in ("latents_mean", "latents_std")
    )
