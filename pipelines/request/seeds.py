"""Seeds: which ones there are, and the one place that draws one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from .base import WanRequest

__all__ = ["SEED_MAX", "seed_for_run", "seed_of"]

SEED_MAX = 2**64 - 1  # the largest that torch.Generator.manual_seed takes

# How many seeds a runner draws from: here what every JSON reader keeps exact, there what both providers take.
_DRAWN: Mapping[str, int] = {"local": 2**53, "fal": 2**31, "novita": 2**31}


def seed_of(request: WanRequest) -> int | None:
    """The seed that is asked for, None when one is to be drawn."""
    seed: int | None = getattr(request, "seed", None)
    return None if seed is None or seed < 0 else seed


def seed_for_run(request: WanRequest, runner: str) -> int:
    """The seed that is asked for, else a new one. Called once a run: right before the plan, or the order."""
    seed = seed_of(request)
    return secrets.randbelow(_DRAWN[runner]) if seed is None else seed
