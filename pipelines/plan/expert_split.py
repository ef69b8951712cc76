"""Decides which expert runs each step: by a boundary, by a number of steps, or by phases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RequestError
from ..request import Resolved
from ..request.local_settings import LocalSettings
from ..request.phases import experts_named, stated_steps
from .families import Family
from .sigmas import SigmaGrid, experts_of, first_steps

__all__ = ["expert_split"]


def expert_split(
    resolved: Resolved, family: Family, grid: SigmaGrid, boundary: float | None
) -> tuple[float | None, tuple[str, ...]]:
    """Return the boundary and the expert of every step. The boundary is None where the request states steps.

    boundary: 0 to 1, in place of the family's own; the request's comes before both.

    Raises RequestError when a boundary does not fit, or when phases have another number of steps.
    """
    values, asked = resolved.values, resolved.values.get("boundary")
    boundary = _boundary(family, boundary if asked is None else asked)
    stated = _stated(values, resolved.request.local, len(grid.timesteps), family.experts)
    return (boundary, experts_of(grid, boundary)) if stated is None else (None, stated)


def _stated(
    values: Mapping[str, Any], local: LocalSettings | None, steps: int, experts: int
) -> tuple[str, ...] | None:
    """Return the expert of every step, where the request states it in place of a boundary; else None."""
    if values.get("high_steps") is not None:
        return first_steps(steps, values["high_steps"])
    phases = () if local is None else local.phases
    stated = stated_steps(phases)
    if stated is None:
        return None
    if stated != steps:
        raise RequestError.of(
            "local.phases", f"have {stated} steps", f"give {steps} in all, as num_inference_steps"
        )
    named = zip(experts_named(phases, experts), phases, strict=True)
    return tuple(name for name, phase in named for _ in range(phase.steps or 0))


def _boundary(family: Family, asked: float | None) -> float | None:
    if asked is None:
        return family.boundary
    if family.experts == 1:
        raise RequestError.of("boundary", f"got {asked}", f"leave it out: {family.name} has one expert")
    if not 0.0 <= asked <= 1.0:
        raise RequestError.of("boundary", f"got {asked}", "give 0 (all high) to 1 (all low, or nearly)")
    return float(asked)
