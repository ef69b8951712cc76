"""The noise of a run, and how it is mixed with latents.

Noise is generated on the CPU in float32, as in the official code and ComfyUI, so that a seed gives the same
noise on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["StartLatents", "add_noise", "from_leftover", "initial_noise", "noise_sampler", "to_leftover"]


@dataclass(frozen=True)
class StartLatents:
    """The input of sampling.

    latents:       (B, C, T, H/8, W/8) in VAE space; zeros without an input video or image. If `noise` is
                   None, they still hold noise of the first sigma, in the leftover form x / (1 - sigma).
    noise:         standard normal noise of the same shape.
    kept:          (T,) bool, True for a latent frame that is returned unchanged; only the 5B model can do
                   that. None if all frames are sampled.
    noise_sampler: returns new noise of the same shape at each call, for a solver that adds noise at each
                   step.
    """

    latents: Tensor
    noise: Tensor | None
    kept: Tensor | None = None
    noise_sampler: Callable[[], Tensor] | None = None


def initial_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Return standard normal noise (B, C, T, H/8, W/8), float32, CPU. seed: 0 to 2**64 - 1."""
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def noise_sampler(shape: Sequence[int], seed: int) -> Callable[[], Tensor]:
    """Return a function that generates new noise at each call, for solvers that add noise at each step.

    It continues the generator of `initial_noise`: the first call returns the second tensor of the seed.
    """
    generator = torch.Generator("cpu").manual_seed(seed)

    def sample() -> Tensor:
        return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)

    sample()  # the initial noise
    return sample


def add_noise(clean: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Return `clean` latents at noise level `sigma` (0 to 1). Both inputs are in normalised latent space."""
    return sigma * noise + (1.0 - sigma) * clean


def to_leftover(latents: Tensor, sigma: float) -> Tensor:
    """Return x / (1 - sigma), the form in which ComfyUI passes noisy latents from one sampler to the next.

    sigma: below 1. At 1 the form does not exist; it is not needed, because no step was made yet.
    """
    return latents / (1.0 - sigma)


def from_leftover(latents: Tensor, sigma: float) -> Tensor:
    """Return the noisy latents x of the form x / (1 - sigma). The inverse of `to_leftover`."""
    return latents * (1.0 - sigma)
