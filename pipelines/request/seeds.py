"""Seeds: their range, and the only function that chooses a random one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from .base import WanRequest

__all__ = ["SEED_MAX", "seed_for_run", "seed_of"]

SEED_MAX = 2**64 - 1  # the largest that torch.Generator.manual_seed takes

# Random seeds are below these: local, what every JSON reader keeps exact; else what both providers accept.
_RANDOM_BELOW: Mapping[str, int] = {"local": 2**53, "fal": 2**31, "novita": 2**31}


def seed_of(request: WanRequest) -> int | None:
    """Return the seed of the request, or None if a random one is wanted."""
    seed: int | None = getattr(request, "seed", None)
    return None if seed is None or seed < 0 else seed


def seed_for_run(request: WanRequest, runner: str) -> int:
    """Return the seed of the request, or a random one. Called once per run, before the plan or order."""
    seed = seed_of(request)
    return secrets.randbelow(_RANDOM_BELOW[runner]) if seed is None else seed
