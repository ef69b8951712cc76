"""Flow matching as Wan does it: straight lines from clip to noise, and the velocity along them.

`x = (1 - sigma) * clean + sigma * noise`, the target is `noise - clean`, the timestep is `1000 * sigma`,
and sigma is a uniform number pushed towards noise by the shift. Each expert sees only its own side of the
boundary.
"""

from __future__ import annotations

import numpy as np
import torch

from .networks import SHIFT

__all__ = ["EXPERTS", "draw_sigmas", "noised", "shifted", "sigma_grid", "unshifted"]

EXPERTS = ("high", "low")


def shifted(u: np.ndarray, shift: float = SHIFT) -> np.ndarray:
    return shift * u / (1 + (shift - 1) * u)


def unshifted(sigma: float, shift: float = SHIFT) -> float:
    return sigma / (shift - (shift - 1) * sigma)


def draw_sigmas(expert: str, boundary: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Sigmas of the expert's own range: high at and above the boundary, low below it."""
    middle = unshifted(boundary)
    low, high = (middle, 1.0) if expert == "high" else (0.001, middle)
    spread = (np.arange(count) + rng.random(count)) / count  # stratified: the loss of a batch varies less
    return shifted(low + (high - low) * spread).clip(
        *((boundary, 1.0) if expert == "high" else (0.0, boundary - 1e-6))
    )


def noised(
    clean: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(what the expert sees, what it must say); `sigmas`: (B,)."""
    sigma = sigmas.view(-1, 1, 1, 1, 1)
    return (1 - sigma) * clean + sigma * noise, noise - clean


def sigma_grid(steps: int) -> np.ndarray:
    """steps + 1 sigmas from 1 to 0 for the previews' Euler loop."""
    return shifted(np.linspace(1, 0, steps + 1))
