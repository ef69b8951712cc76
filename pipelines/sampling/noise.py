"""The noise a run starts from, and how it is mixed with what is already there.

Drawn on the CPU in float32, as the official code and ComfyUI do, so that one seed means one video on every
device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["StartLatents", "add_noise", "draw_noise", "from_leftover", "later_noise", "to_leftover"]


@dataclass(frozen=True)
class StartLatents:
    """What sampling starts from.

    latents: (B, C, T, H/8, W/8) in VAE space; zeros where there is nothing yet. Where `noise` is None they
             still hold noise of the first sigma, in the leftover form x / (1 - sigma).
    noise:   normal noise of the same shape to start from.
    kept:    (T,) bool, the frames of `latents` that are there already and come back as they are; only the 5B
             model can do that. None where all are sampled.
    later:   more noise, for a solver that noises anew (`later_noise`).
    """

    latents: Tensor
    noise: Tensor | None
    kept: Tensor | None = None
    later: Callable[[], Tensor] | None = None


def draw_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal noise (B, C, T, H/8, W/8), float32, CPU. `seed` is 0 to 2**64 - 1."""
    return torch.randn(tuple(shape), generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def later_noise(shape: Sequence[int], seed: int) -> Callable[[], Tensor]:
    """What the generator of `draw_noise` gives after that, one draw a call: for solvers that noise anew."""
    generator = torch.Generator("cpu").manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)

    draw()
    return draw


def add_noise(clean: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Latents at noise level `sigma`; both inputs in normalised latent space."""
    return sigma * noise + (1.0 - sigma) * clean


def to_leftover(latents: Tensor, sigma: float) -> Tensor:
    """Latents that still hold noise, in the form ComfyUI hands from one sampler to the next: x / (1 - sigma).

    At sigma 1 that form does not exist (it would divide by zero); there is nothing to hand on before a step
    was made.
    """
    return latents / (1.0 - sigma)


def from_leftover(latents: Tensor, sigma: float) -> Tensor:
    """The inverse of `to_leftover`."""
    return latents * (1.0 - sigma)
