"""Computes sigma grids: the noise level of every step, and the timestep that the expert receives.

The UniPC and DPM++ grids equal the official Wan 2.2 code bit for bit (wan/utils/fm_solvers_unipc.py and
fm_solvers.py): computed in float64, rounded to float32 once at the end. tests/golden holds official values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import RequestError
from ..request.timing import running_steps

__all__ = [
    "DISTILLED",
    "GRIDS",
    "Guidance",
    "SigmaGrid",
    "dmd_grid",
    "dpmpp_grid",
    "experts_of",
    "first_steps",
    "forwards_of",
    "from_sigmas",
    "lightning_grid",
    "linear_grid",
    "rcm_grid",
    "split",
    "stages_of",
    "start_step",
    "step_scales",
    "unipc_grid",
]

# 1 - 1/1000 as the official table of 1000 training steps stores it: in float32.
_SIGMA_MAX = float(np.float32(1.0 - 1.0 / 1000.0))
_LIGHTNING = (1.0, 0.75, 0.5, 0.25)  # LightX2V Wan22StepDistillScheduler: steps 1000, 750, 500, 250

# The steps that FastWan is distilled for: FastVideo fastvideo/pipelines/stages/denoising.py.
_DMD = (1000, 757, 522)
# rCM (TurboDiffusion): angles of TrigFlow, turbodiffusion/inference/wan2.1_t2v_infer.py. The first is
# atan(sigma_max); four steps is its maximum.
_RCM, _RCM_SIGMA_MAX = (1.5, 1.4, 1.0), 80.0

Guidance = Mapping[str, float] | Sequence[float]
"""The scale of each expert, or of each step."""

Step = TypeVar("Step")
_Array = npt.NDArray[np.float64]


class SigmaGrid(NamedTuple):
    """The noise levels of n steps.

    sigmas:    n + 1 falling float32 values in [0, 1]. The grid of a whole run ends at 0.
    timesteps: n values in [0, 1000]. Whole numbers where the official solver truncates.
    """

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]


def unipc_grid(steps: int, shift: float) -> SigmaGrid:
    """Return the grid of the official UniPC solver: sigmas from 0.999 down, whole timesteps."""
    return _grid(_shifted(np.linspace(_SIGMA_MAX, 0.0, steps + 1)[:-1], shift), truncate=True)


def dpmpp_grid(steps: int, shift: float) -> SigmaGrid:
    """Return the grid of the official DPM++ 2M solver: sigmas from 1 down, whole timesteps."""
    return _grid(_shifted(np.linspace(1.0, 0.0, steps + 1)[:-1], shift), truncate=True)


def linear_grid(steps: int, shift: float) -> SigmaGrid:
    """Return the sigmas of `dpmpp_grid` with timesteps that are not truncated, for Euler."""
    return _grid(_shifted(np.linspace(1.0, 0.0, steps + 1)[:-1], shift), truncate=False)


def lightning_grid(shift: float = 5.0) -> SigmaGrid:
    """Return the four steps of Lightning LoRAs: at shift 5, sigmas 1, .9375, .8333 and .625."""
    return _grid(_shifted(np.array(_LIGHTNING), shift), truncate=False)


def dmd_grid(shift: float = 8.0) -> SigmaGrid:
    """Return the three steps of FastVideo's 5B. Each predicts the video and adds the noise of the next.

    shift: of a table of 1000 noise levels, from which each step uses the nearest. FastVideo's stage uses 8,
           its configuration says 5.
    """
    table = _shifted(np.arange(1000, 0, -1) / 1000.0, shift)
    sigmas = np.array([table[np.abs(table * 1000 - step).argmin()] for step in _DMD])
    return SigmaGrid((*_rounded(sigmas), 0.0), tuple(float(step) for step in _DMD))


def rcm_grid(steps: int = 4, sigma_max: float = _RCM_SIGMA_MAX) -> SigmaGrid:
    """Return up to four steps of rCM: tan(t) / (1 + tan(t)) for its angles t.

    sigma_max: tan(t) of the first step: 80 for Wan 2.1, 200 for image to video with Wan 2.2.
    """
    tangents = np.array([sigma_max, *np.tan(_RCM[: steps - 1])])
    return _grid(tangents / (1 + tangents), truncate=False)


def from_sigmas(values: Iterable[float]) -> SigmaGrid:
    """Make a grid from other sigmas, for example a SIGMAS tensor of ComfyUI. It may end above 0.

    Raises RequestError unless there are at least two, falling within 1 to 0.
    """
    sigmas = tuple(float(np.float32(value)) for value in values)
    falling = all(earlier > later for earlier, later in pairwise(sigmas))
    if len(sigmas) < 2 or not falling or not (sigmas[0] <= 1.0 and sigmas[-1] >= 0.0):
        shown = ", ".join(f"{sigma:.4g}" for sigma in sigmas[:12])
        raise RequestError.of("sigmas", f"got {shown}", "give two or more falling values within 1 to 0")
    return SigmaGrid(sigmas, tuple(1000.0 * sigma for sigma in sigmas[:-1]))


def _lightning(steps: int, shift: float) -> SigmaGrid:
    if steps != len(_LIGHTNING):
        raise RequestError.of("steps", f"got {steps}", "give 4; lightning is distilled for 4 steps")
    return lightning_grid(shift)


def _dmd(steps: int, shift: float) -> SigmaGrid:
    if steps != len(_DMD):
        raise RequestError.of(
            "num_inference_steps", f"got {steps}", "give 3; FastVideo is distilled for 3 steps"
        )
    return dmd_grid(shift)


def _rcm(steps: int, _shift: float) -> SigmaGrid:
    if steps > len(_RCM) + 1:
        raise RequestError.of("steps", f"got {steps}", "give 1 to 4; rCM is distilled for 4 steps")
    return rcm_grid(steps)


# {solver in a request: (grid, solver that uses it)}
GRIDS: Mapping[str, tuple[Callable[[int, float], SigmaGrid], str]] = {
    "unipc": (unipc_grid, "unipc"),
    "dpm++": (dpmpp_grid, "dpm++"),
    "euler": (linear_grid, "euler"),
    "lightning": (_lightning, "euler"),
    "dmd": (_dmd, "dmd"),
    "rcm": (_rcm, "dmd"),
}
# {grid of distilled weights: (grid, solver that uses it)}
DISTILLED: Mapping[str, tuple[Callable[[int, float], SigmaGrid], str]] = {
    "lightning": GRIDS["lightning"],
    "dmd": GRIDS["dmd"],
}


def split(grid: SigmaGrid, boundary: float | None) -> int:
    """Return the index of the first step of the low-noise expert, or the number of steps if it runs none.

    boundary: 0 to 1, None for one expert. A timestep on the boundary belongs to the high-noise expert, as in
              the official code.
    """
    if boundary is None:
        return len(grid.timesteps)
    return sum(timestep >= boundary * 1000 for timestep in grid.timesteps)


def experts_of(grid: SigmaGrid, boundary: float | None) -> tuple[str, ...]:
    """Return the expert of each step, "high" or "low". See `split`."""
    low_from = split(grid, boundary)
    return ("high",) * low_from + ("low",) * (len(grid.timesteps) - low_from)


def first_steps(steps: int, high: int) -> tuple[str, ...]:
    """Return the expert of each of `steps`: the first `high` are those of the high-noise expert."""
    return ("high",) * min(high, steps) + ("low",) * max(steps - high, 0)


def stages_of(experts: Sequence[Step], start: int = 0) -> Iterator[tuple[Step, range]]:
    """Yield (expert, steps) of each stage from step `start` on. A stage is a run of steps with the same
    expert, or with whatever else is given for each step.

    >>> list(stages_of(("high", "high", "low"), 1))
    [('high', range(1, 2)), ('low', range(2, 3))]
    """
    for expert, steps in groupby(experts[start:]):
        end = start + len(list(steps))
        yield expert, range(start, end)
        start = end


def step_scales(experts: Sequence[str], guidance: Guidance) -> tuple[float, ...]:
    """Return the guidance scale of each of these steps. guidance: per expert, or of each step already."""
    return tuple(map(guidance.__getitem__, experts) if isinstance(guidance, Mapping) else guidance)


def forwards_of(experts: Sequence[str], guidance: Guidance) -> tuple[str, ...]:
    """Return the expert of every forward of these steps, in order. A step with guidance has two forwards."""
    scaled = zip(experts, step_scales(experts, guidance), strict=True)
    return tuple(name for name, scale in scaled for _ in range(1 if scale == 1 else 2))


def start_step(steps: int, strength: float) -> int:
    """Return how many steps a strength of 0 to 1 skips: none at 1, all at 0."""
    return steps - running_steps(steps, strength)


def _shifted(sigmas: _Array, shift: float) -> _Array:
    shifted: _Array = shift * sigmas / (1 + (shift - 1) * sigmas)
    return shifted


def _rounded(sigmas: _Array) -> tuple[float, ...]:
    return tuple(float(sigma) for sigma in sigmas.astype(np.float32))


def _grid(sigmas: _Array, *, truncate: bool) -> SigmaGrid:
    rounded = _rounded(sigmas)
    timesteps = (sigmas * 1000).astype(np.int64) if truncate else (1000.0 * sigma for sigma in rounded)
    return SigmaGrid((*rounded, 0.0), tuple(float(timestep) for timestep in timesteps))
