"""Which step cache a run has, and how much it may change the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..request import Resolved
from ..request.step_caches import CACHE_THRESHOLDS
from .families import Family
from .magnitudes import magnitudes_of

__all__ = ["CacheChoice"]

_REGULAR = "first-block"  # of `acceleration: regular`
_OLD_NAMES = {"first block": "first-block"}  # in receipts up to 0.1.0


@dataclass(frozen=True)
class CacheChoice:
    """A step cache. name: "first-block", "magcache" or "easycache". threshold: above 0, as in that cache."""

    name: str
    threshold: float

    @property
    def keeps_hidden_states(self) -> bool:
        """Whether it needs memory like a forward. The other one keeps velocities, of the size of latents."""
        return self.name != "easycache"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, resolved: Resolved, family: Family) -> CacheChoice | None:
        """Return what a resolved request chooses; None computes every step."""
        local = resolved.request.local
        if local is not None and local.step_cache != "off":
            threshold = local.step_cache_threshold or _usual_threshold(local.step_cache, family)
            return cls(local.step_cache, threshold)
        if resolved.values.get("acceleration") == "regular":
            return cls(_REGULAR, CACHE_THRESHOLDS[_REGULAR])
        return None

    @classmethod
    def of_receipt(cls, recorded: Mapping[str, Any]) -> CacheChoice:
        """Return the cache of the `acceleration` of a receipt. Raises KeyError, TypeError or ValueError."""
        name = recorded.get("cache", _REGULAR)
        return cls(_OLD_NAMES.get(name, str(name)), float(recorded["threshold"]))


def _usual_threshold(name: str, family: Family) -> float:
    if name in CACHE_THRESHOLDS:
        return CACHE_THRESHOLDS[name]
    measured = magnitudes_of(family)
    assert measured is not None  # noqa: S101 - the check has refused other families
    return measured.threshold
