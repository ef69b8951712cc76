"""Numerical solvers of the flow-matching ODE: each step computes less noisy latents from a velocity.

A solver is built from the whole sigma grid and then called once per step, in order. Latents are x(sigma) = (1
- sigma) * clean + sigma * noise, and velocity = noise - clean, so the clean estimate is x - sigma * velocity.

The arithmetic of `UniPC` and `DPMPlusPlus2M` follows the official Wan 2.2 solvers operation by operation, in
float32. Tests check that the bits are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["DMD", "SOLVERS", "DPMPlusPlus2M", "Euler", "Solver", "UniPC", "new_solver"]


class Solver(Protocol):
    """Computes the latents of step `index + 1` from the velocity at step `index`."""

    def step(self, index: int, latents: Tensor, velocity: Tensor) -> Tensor: ...


class Euler:
    """First order. It is the only solver here without state, so a run may be split at any step."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self._sigmas = tuple(sigmas)

    def step(self, index: int, latents: Tensor, velocity: Tensor) -> Tensor:
        return latents + (self._sigmas[index + 1] - self._sigmas[index]) * velocity


class _LogSnrGrid:
    """Alpha, sigma and half log-SNR (lambda) of every grid point, float32 scalars on the CPU."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigma = torch.tensor(tuple(sigmas), dtype=torch.float32)
        self.alpha = 1 - self.sigma
        self.lam = torch.log(self.alpha) - torch.log(self.sigma)
        self.steps = len(self.sigma) - 1

    def is_pure_noise(self, index: int) -> bool:
        """Return whether lambda is minus infinity here: such a point has no multistep slope."""
        return bool(torch.isinf(self.lam[index]) and self.lam[index] < 0)


class DPMPlusPlus2M:
    """DPM-Solver++(2M), midpoint form, data prediction (https://arxiv.org/abs/2211.01095, eq. 4.1)."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        self._grid = _LogSnrGrid(sigmas)
        self._previous: Tensor | None = None

    def step(self, index: int, latents: Tensor, velocity: Tensor) -> Tensor:
        grid = self._grid
        clean = latents - grid.sigma[index] * velocity
        h = grid.lam[index + 1] - grid.lam[index]
        decay = grid.alpha[index + 1] * (torch.exp(-h) - 1.0)
        result = (grid.sigma[index + 1] / grid.sigma[index]) * latents - decay * clean
        last_step = index == grid.steps - 1 and grid.sigma[index + 1] == 0
        if self._previous is not None and not last_step:
            ratio = (grid.lam[index] - grid.lam[index - 1]) / h
            slope = (1.0 / ratio) * (clean - self._previous)
            result = result - 0.5 * decay * slope
        self._previous = clean
        return result


class UniPC:
    """UniPC of order 2, B(h) = expm1(h), data prediction.

    Source: https://arxiv.org/abs/2302.04867, algorithms 5 to 8. Each step first corrects the current latents
    with the new velocity, then predicts the next ones. The first and the last step are first order.
    """

    _ORDER = 2

    def __init__(self, sigmas: Sequence[float]) -> None:
        self._grid = _LogSnrGrid(sigmas)
        self._clean: list[Tensor] = []
        self._predicted_from: Tensor | None = None
        self._order = 0

    def step(self, index: int, latents: Tensor, velocity: Tensor) -> Tensor:
        clean = latents - self._grid.sigma[index] * velocity
        if self._predicted_from is not None:
            latents = self._correct(index, self._predicted_from, clean)
        self._clean = [*self._clean[-1:], clean]
        self._order = min(self._ORDER, self._grid.steps - index, len(self._clean))
        self._predicted_from = latents
        return self._predict(index, latents)

    def _predict(self, index: int, latents: Tensor) -> Tensor:
        base, scale, h = self._first_order(index, index + 1, latents)
        if self._order == 1:
            return base
        return base - scale * (0.5 * self._slope(index, h))

    def _correct(self, index: int, latents: Tensor, clean: Tensor) -> Tensor:
        base, scale, h = self._first_order(index - 1, index, latents)
        change = clean - self._clean[-1]
        if self._order == 1 or self._grid.is_pure_noise(index - 2):
            return base - scale * (0.5 * change)
        slope_weight, change_weight = self._corrector_weights(index - 1, h)
        return base - scale * (slope_weight * self._slope(index - 1, h) + change_weight * change)

    def _first_order(self, start: int, end: int, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first-order prediction, the factor of all higher-order terms, and h.

        h = lambda_end - lambda_start.
        """
        grid = self._grid
        h = grid.lam[end] - grid.lam[start]
        growth = torch.expm1(-h)
        base = grid.sigma[end] / grid.sigma[start] * latents - grid.alpha[end] * growth * self._clean[-1]
        return base, grid.alpha[end] * growth, h

    def _slope(self, start: int, h: Tensor) -> Tensor:
        """Return the first divided difference of the clean estimates that end at `start`."""
        return (self._clean[-2] - self._clean[-1]) / self._ratio(start, h)

    def _ratio(self, start: int, h: Tensor) -> Tensor:
        return (self._grid.lam[start - 1] - self._grid.lam[start]) / h

    def _corrector_weights(self, start: int, h: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the two order conditions of UniC (paper eq. 9) for the weights of slope and change.

        It runs on the CPU, like the grid: MPS has no linear solver before torch 2.7, and a device would have
        to be waited for.
        """
        ratios = torch.stack([self._ratio(start, h), torch.ones_like(h)])
        growth = torch.expm1(-h)
        phi_1 = growth / -h - 1
        phi_2 = phi_1 / -h - 0.5
        weights = torch.linalg.solve(
            torch.stack([torch.ones_like(ratios), ratios]),
            torch.stack([phi_1 / growth, phi_2 * 2 / growth]),
        )
        return weights[0], weights[1]


class DMD:
    """Each step computes the clean estimate and adds new noise to it for the next step.

    Distribution matching distillation (https://arxiv.org/abs/2405.14867, section 4.5), as FastVideo runs
    FastWan: fastvideo/pipelines/stages/denoising.py at 2f3d407. rCM samples in the same way:
    turbodiffusion/inference/wan2.1_t2v_infer.py of thu-ml/TurboDiffusion.
    """

    def __init__(self, sigmas: Sequence[float], noise_sampler: Callable[[], Tensor]) -> None:
        """noise_sampler: returns new standard normal noise of the shape of the latents, on any device."""
        self._sigmas, self._noise_sampler = tuple(sigmas), noise_sampler

    def step(self, index: int, latents: Tensor, velocity: Tensor) -> Tensor:
        clean = latents - self._sigmas[index] * velocity
        sigma = self._sigmas[index + 1]
        if sigma == 0:
            return clean
        return (1.0 - sigma) * clean + sigma * self._noise_sampler().to(clean.device)


SOLVERS: dict[str, Callable[[Sequence[float]], Solver]] = {
    "unipc": UniPC,
    "dpm++": DPMPlusPlus2M,
    "euler": Euler,
}


def new_solver(
    name: str, sigmas: Sequence[float], noise_sampler: Callable[[], Tensor] | None = None
) -> Solver:
    """Return a new solver by its name.

    noise_sampler: for `DMD`, the only solver that adds noise at each step. Raises ValueError if it is missing
    there.
    """
    if name != "dmd":
        return SOLVERS[name](sigmas)
    if noise_sampler is None:
        raise ValueError("dmd adds new noise at each step and needs a noise_sampler")
    return DMD(sigmas, noise_sampler)
