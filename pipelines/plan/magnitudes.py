"""How the residuals of each network shrink over the noise levels: what MagCache decides by.

MagCache (arxiv.org/abs/2506.09045) observes that the size of the residual, which the blocks add to the
hidden states, changes from step to step by a ratio that hardly depends on the prompt. The ratios are measured
once for each network, on one grid of noise levels. Here they become sizes over the noise level, so that
a run with other steps or another shift has the ratios of its own steps.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import log
from pathlib import Path
from typing import Any

from .families import Family
from .sigmas import GRIDS

__all__ = ["Magnitudes", "ResidualCurve", "magnitudes_of"]

_FILE = Path(__file__).with_name("magnitudes.json")
_MEASURED_ON = "unipc"  # the grid of the official code


@dataclass(frozen=True)
class ResidualCurve:
    """The logarithm of the residual's size at falling timesteps (0 to 1000), the first one as 0."""

    timesteps: tuple[float, ...]
    sizes: tuple[float, ...]

    def at(self, timestep: float) -> float:
        """Return the logarithm of the size at `timestep`: between two measured ones on a line, and beyond
        them that of the nearest."""
        position = bisect_left(self.timesteps, -timestep, key=lambda each: -each)
        if position in (0, len(self.timesteps)):
            return self.sizes[min(position, len(self.sizes) - 1)]
        before, after = self.timesteps[position - 1], self.timesteps[position]
        share = (before - timestep) / (before - after)
        return self.sizes[position - 1] + share * (self.sizes[position] - self.sizes[position - 1])


@dataclass(frozen=True)
class Magnitudes:
    """What MagCache must know about a model.

    threshold:  the accumulated error up to which blocks are skipped, as its authors run this model.
    most_skips: the most forwards in a row that skip blocks.
    computed:   {expert: share of its first steps, 0 to 1, that are always computed}.
    curves:     {expert: (with the prompt, with the negative prompt)}.
    """

    threshold: float
    most_skips: int
    computed: Mapping[str, float]
    curves: Mapping[str, tuple[ResidualCurve, ResidualCurve]]


def magnitudes_of(family: Family) -> Magnitudes | None:
    """Return what was measured for a family; None if nothing was."""
    measured = _measured().get(family.name)
    return None if measured is None else _magnitudes(family, measured)


@cache
def _measured() -> Mapping[str, Any]:
    """Return {family: what was measured}, each with its source."""
    found: Mapping[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def _magnitudes(family: Family, measured: Mapping[str, Any]) -> Magnitudes:
    timesteps = GRIDS[_MEASURED_ON][0](measured["steps"], measured["shift"]).timesteps
    boundary = 0.0 if family.boundary is None else 1000 * family.boundary
    high = sum(timestep >= boundary for timestep in timesteps)
    parts = {"high": slice(0, high), "low": slice(high, None)}
    ratios = [measured["ratios"][name] for name in ("prompt", "negative_prompt")]
    curves = {
        expert: (_curve(timesteps, ratios[0], parts[expert]), _curve(timesteps, ratios[1], parts[expert]))
        for expert in measured["computed"]
    }
    return Magnitudes(measured["threshold"], measured["most_skips"], measured["computed"], curves)


def _curve(timesteps: Sequence[float], ratios: Sequence[float], part: slice) -> ResidualCurve:
    """ratios: each step's size over that of the step before, from the second step on."""
    own = [log(ratio) for ratio in [1.0, *ratios][part]][1:]
    return ResidualCurve(tuple(timesteps[part]), tuple(accumulate(own, initial=0.0)))
